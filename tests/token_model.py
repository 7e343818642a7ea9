"""A server whose model always writes the same tokens, and that ends a generation where it is told to, as the engine does."""

from __future__ import annotations

from typing import Any

from magpie.models.chat_template import ChatTemplate
from scripted_server import Reply, ScriptedServer


class TokenModel(ScriptedServer):
    """`writes`: what the model writes; where there are several texts, the n-th to a prompt that has `prompts[n]` in it."""

    def __init__(self, template: ChatTemplate, *writes: str, prompts: tuple[str, ...] = ("",)) -> None:
        super().__init__()
        self._writer = template._tokenizer
        self._texts = [(words, template.encode(text)) for words, text in zip(prompts, writes, strict=True)]
        self._special = set(self._writer.added_tokens.values())
        self.default = Reply(body={})

    async def _send(self, request: Any, reply: Reply) -> Any:
        if request.path.endswith("/completions"):
            reply = Reply(body=self._generated(await request.json()))
        return await super()._send(request, reply)

    def _generated(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = self._writer.decode(body["prompt"]) if len(self._texts) > 1 else ""
        written = next((ids for words, ids in self._texts if words in asked), self._texts[0][1])
        stop = next((n for n, i in enumerate(written) if i in body["stop_token_ids"]), None)
        ids = written[: body["max_tokens"] if stop is None else stop]
        shown = ids if body.get("skip_special_tokens") is False else [i for i in ids if i not in self._special]
        choice = {"index": 0, "text": self._writer.decode(shown), "finish_reason": "length" if stop is None else "stop"}
        choice["token_ids"] = ids if stop is None else written[: stop + 1]
        return {"choices": [choice], "usage": {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(ids)}}
