// Images that can be clicked. Tab reaches one of a group, and the arrow keys, Home and End the
// others. The listeners stand on the element around them, which stays when its content changes.
const cellOf = (event) => event.target.closest(".gs-cell");
let chosen = null;
const nameOf = (cell) => JSON.stringify(cell.dataset);
const mark = () => {
  for (const cell of element.querySelectorAll(".gs-cell")) {
    cell.setAttribute("aria-pressed", nameOf(cell) === chosen);
  }
};
element.addEventListener("click", (event) => {
  const cell = cellOf(event);
  if (!cell) return;
  chosen = nameOf(cell);
  mark();
  trigger("select", { ...cell.dataset });
});
element.addEventListener("keydown", (event) => {
  const cell = cellOf(event);
  if (!cell) return;
  const cells = [...cell.parentElement.children];
  const columns = Number(cell.parentElement.dataset.columns);
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  const here = cells.indexOf(cell);
  let next = here + moves[event.key];
  if (event.key === "Home") next = 0;
  if (event.key === "End") next = cells.length - 1;
  if (!cells[next]) return;
  event.preventDefault();
  cell.tabIndex = -1;
  cells[next].tabIndex = 0;
  cells[next].focus();
});
watch("value", mark);
