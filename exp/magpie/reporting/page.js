"use strict";
for (const box of document.querySelectorAll("input.filter")) {
  const rows = [...document.getElementById(box.dataset.of).querySelectorAll(":scope > .sample")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  box.closest("label").hidden = false;
  box.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      shown += !row.hidden;
    });
    box.nextElementSibling.textContent = `${shown} of ${rows.length}`;
  });
}
