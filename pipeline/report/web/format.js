// Numbers and times as people read them. All times are UTC.

const NOTHING = "–";
const TWO = (value) => String(value).padStart(2, "0");

function number(value, decimals) {
  if (value === null || value === undefined) return NOTHING;
  return unsigned(written(decimals, decimals).format(value));
}

const WRITERS = new Map();

// A writer of numbers with so many decimals; making one takes longer than using it.
function written(least, most) {
  const key = `${least} ${most}`;
  if (!WRITERS.has(key)) {
    const options = { minimumFractionDigits: least, maximumFractionDigits: most };
    WRITERS.set(key, new Intl.NumberFormat("en-US", options));
  }
  return WRITERS.get(key);
}

// Nothing is no less than nothing: -0.00 is 0.00.
function unsigned(text) {
  return /[1-9]/.test(text) ? text : text.replace("-", "");
}

function price(value) {
  return number(value, HEAD.decimals.price);
}

// A price that lies between the ticks: an average, the centre of a bin.
function average(value) {
  return number(value, HEAD.decimals.price + 1);
}

function size(value) {
  return number(value, Math.min(4, HEAD.decimals.size));
}

// 1.23M, 487k, 950: three digits that matter.
function short(value) {
  if (value === null || value === undefined) return NOTHING;
  const far = Math.abs(value);
  for (const [unit, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (far >= 0.9995 * unit) return `${trimmed(value / unit)}${letter}`;
  }
  return trimmed(value);
}

function trimmed(value) {
  const far = Math.abs(value);
  const decimals = far >= 99.95 || far === 0 ? 0 : far >= 9.995 ? 1 : 2;
  return unsigned(value.toFixed(decimals));
}

function signed(value, write) {
  if (value === null || value === undefined) return NOTHING;
  const text = write(value);
  return value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

// Any number of a row, to eight digits.
function plain(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return written(0, 0).format(value);
  const digits = 8 - Math.ceil(Math.log10(Math.abs(value)));
  return written(0, Math.min(20, Math.max(0, digits))).format(value);
}

// The same to four digits, for words beside which the exact number stands elsewhere.
function rough(value) {
  return typeof value === "number" && !Number.isInteger(value) ? plain(Number(value.toPrecision(4))) : plain(value);
}

function clock(at) {
  const date = new Date(at * 1000);
  return `${TWO(date.getUTCHours())}:${TWO(date.getUTCMinutes())}`;
}

function clockSeconds(at) {
  return `${clock(at)}:${TWO(new Date(at * 1000).getUTCSeconds())}`;
}

function dayOf(at) {
  return new Date(at * 1000).toISOString().slice(0, 10);
}

function moment(at) {
  return `${dayOf(at)} ${clock(at)}`;
}

function lasting(s) {
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${trimmed(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}

// A new element; children are texts or elements, null is left out.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") made.style.cssText = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
