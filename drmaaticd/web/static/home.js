// The cards are filtered while one types; without this script the form does it.

const field = document.getElementById("search");
const cards = [...document.querySelectorAll("#cards > .card")];
const found = document.getElementById("found");

function filter() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const card of cards) {
    const text = card.dataset.text.toLowerCase();
    card.hidden = !words.every((word) => text.includes(word));
    count += card.hidden ? 0 : 1;
  }
  found.textContent = `${count} ${count === 1 ? "script" : "scripts"}`;
}

if (cards.length) field.addEventListener("input", filter);
