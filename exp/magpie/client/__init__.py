"""An HTTP client of OpenAI-compatible servers: pool, retries, rate limits."""
