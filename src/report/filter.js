// Shows the rows that have all the words that are typed, and hides the others.
"use strict";
const filter = document.querySelector(".filter");
if (filter) {
  const [input, output] = filter.children;
  const rows = [...document.querySelectorAll("tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const apply = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter((word) => word);
    rows.forEach((row, at) => {
      row.hidden = !words.every((word) => texts[at].includes(word));
    });
    const shown = rows.filter((row) => !row.hidden).length;
    output.textContent = words.length > 0 ? `${shown} of ${rows.length}` : "";
  };
  input.addEventListener("input", apply);
  filter.hidden = false;
  // What was typed may be there after the page is loaded again.
  apply();
}
