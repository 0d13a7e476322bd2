// What the file carries: the head, and a block of columns for each UTC day, unpacked when asked for.

const HEAD = JSON.parse(document.getElementById("head").textContent);
const DAY_S = 86400;
const STEPS = { "1m": 60, "5m": 300, "15m": 900, "30m": 1800 };

// The values of a column; pipeline/report/columns.py says how they are packed.
function unpackColumn(column) {
  if ("f" in column) return column.f;
  if ("j" in column) return column.j;
  if ("n" in column) return new Array(column.n).fill(null);
  if ("s" in column) return column.v.map((at) => (at === null ? null : column.s[at]));
  const scale = 10 ** column.k;
  let sum = 0;
  return column.d.map((step) => (step === null ? null : (sum += step) / scale));
}

function seconds(text) {
  return Date.parse(text) / 1000;
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

async function unpackDay(name) {
  const bytes = bytesOf(document.getElementById(`day-${name}`).textContent);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const day = JSON.parse(await new Response(stream).text());
  const midnight = seconds(`${name}T00:00:00Z`);
  for (const [layer, packedColumns] of Object.entries(day.layers)) {
    const columns = {};
    for (const [column, content] of Object.entries(packedColumns)) {
      columns[column] = unpackColumn(content);
    }
    columns.at = columns.at.map((ms) => midnight + ms / 1000);
    day.layers[layer] = columns;
  }
  addBands(day.layers.vwap_1m);
  return day;
}

// Bands that are the mean and so many deviations, as doubles add them up, are not in the file.
function addBands(vwap) {
  if (!vwap || vwap.upper_1) return;
  for (const k of [1, 2, 3]) {
    vwap[`upper_${k}`] = vwap.session_vwap.map((mean, i) => mean + k * vwap.session_sd[i]);
    vwap[`lower_${k}`] = vwap.session_vwap.map((mean, i) => mean - k * vwap.session_sd[i]);
  }
}

// The days that are unpacked, always without a hole between the first and the last of them.
class Store {
  constructor() {
    this.unpacked = new Map();
    this.first = this.last = HEAD.days.length - 1;
  }

  async show(first, last) {
    for (let i = first; i <= last; i++) {
      if (!this.unpacked.has(i)) this.unpacked.set(i, await unpackDay(HEAD.days[i]));
    }
    this.first = first;
    this.last = last;
    this.join();
  }

  get days() {
    const found = [];
    for (let i = this.first; i <= this.last; i++) found.push(this.unpacked.get(i));
    return found;
  }

  // One table a layer over all days that are shown.
  join() {
    this.layers = {};
    for (const day of this.days) {
      for (const [layer, columns] of Object.entries(day.layers)) {
        const table = (this.layers[layer] ??= {});
        for (const [column, values] of Object.entries(columns)) {
          table[column] = table[column] ? table[column].concat(values) : values;
        }
      }
    }
  }

  rows(layer) {
    return this.layers[layer] ?? { at: [] };
  }

  has(layer, column) {
    const values = this.layers[layer]?.[column];
    return Boolean(values?.some((value) => value !== null));
  }

  events(field) {
    return this.days.flatMap((day) => day[field]);
  }
}
