const table = document.getElementById('stores'), find = document.getElementById('find');
const none = document.getElementById('none');
const stores = body => [...body.rows].filter(row => !row.classList.contains('group'));
const key = (row, n) => {
  const cell = row.cells[n], value = cell.dataset.v;
  return value === undefined ? cell.textContent.trim().toLowerCase() : value === '' ? -Infinity : +value;
};
table.querySelectorAll('thead button').forEach(button => button.addEventListener('click', () => {
  const head = button.closest('th'), n = head.cellIndex, now = head.getAttribute('aria-sort');
  const up = now ? now === 'descending' : n === 0;
  table.querySelectorAll('th[aria-sort]').forEach(other => other.removeAttribute('aria-sort'));
  head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
  const compare = (x, y) => typeof x === 'string' ? x.localeCompare(y, 'en', {numeric: true}) : x < y ? -1 : +(x > y);
  const order = (x, y) => compare(x, y) * (up ? 1 : -1);
  for (const body of table.tBodies)
    stores(body).sort((a, b) => order(key(a, n), key(b, n))).forEach(row => body.append(row));
}));
find.addEventListener('input', () => {
  const word = find.value.trim().toLowerCase();
  for (const body of table.tBodies) {
    stores(body).forEach(row => { row.hidden = !row.dataset.find.includes(word); });
    body.hidden = stores(body).every(row => row.hidden);
  }
  none.hidden = [...table.tBodies].some(body => !body.hidden);
});
find.closest('label').hidden = false;
