// Buttons, switches and the words at the head and the foot of the page.

function writeHead() {
  const { instrument } = HEAD;
  document.getElementById("name").textContent = instrument.inst_id;
  document.getElementById("place").textContent = `${instrument.exchange} ${instrument.market}`;
  document.getElementById("simulated").hidden = !HEAD.simulated;
  const days = HEAD.days.length > 1 ? `${HEAD.days.length} days, ` : "";
  const span = `${days}${moment(HEAD.first)} to ${moment(HEAD.last)} UTC`;
  document.getElementById("span").textContent = span;
  document.getElementById("version").textContent = `flowvault ${HEAD.version}`;
  document.getElementById("made").textContent = `Made by flowvault ${HEAD.version} from committed rows.`;
  document.getElementById("about").replaceChildren(...aboutLayers());
}

// The table at the foot: every layer the page knows, and why one is not there.
function aboutLayers() {
  const row = (cells, tag = "td") => element("tr", {}, ...cells.map((cell) => element(tag, {}, cell)));
  const rows = HEAD.layers.map((each) => {
    const last = each.last === null ? NOTHING : `${moment(each.last / 1e6)}`;
    const rowsOf = ["gaps", "book_gaps"].includes(each.layer) && !each.note ? "as there were holes" : "";
    const made = row([
      each.layer,
      each.layer === "footprint" && !each.note ? "in the profiles" : each.rows.toLocaleString("en-US"),
      last,
      String(each.version),
      each.note ?? rowsOf,
    ]);
    if (each.note) made.className = "absent";
    return made;
  });
  const head = row(["layer", "rows here", "last row in the vault", "version", "note"], "th");
  return [element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows))];
}

function buildControls(page) {
  const timeframes = document.getElementById("timeframes");
  for (const timeframe of Object.keys(STEPS)) {
    const choose = () => page.setTimeframe(timeframe);
    const button = element("button", { type: "button", "data-timeframe": timeframe, onclick: choose }, timeframe);
    button.disabled = timeframe !== "1m" && !HEAD.rows[`bars_${timeframe}`];
    if (button.disabled) button.title = `no closed bar of ${timeframe} here`;
    timeframes.append(button);
  }
  buildDays(page);
  const groups = [
    ["On the price", PARTS],
    ["Events", KINDS],
    ["Panes", Object.fromEntries(PANES.filter((pane) => pane.id !== "price").map((pane) => [pane.id, { label: pane.title }]))],
  ];
  for (const [title, entries] of groups) {
    const boxes = Object.entries(entries).map(([id, each]) => switchOf(page, id, each));
    document.getElementById("switches").append(element("fieldset", {}, element("legend", {}, title), ...boxes));
  }
  const menu = document.querySelector(".menu");
  document.addEventListener("pointerdown", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") menu.open = false;
  });
  document.getElementById("fit").addEventListener("click", () => page.fit());
  document.getElementById("theme").addEventListener("click", () => {
    page.remember({ theme: page.theme === "dark" ? "light" : "dark" });
    page.restyle();
    page.markControls();
  });
  document.getElementById("values").closest("details").addEventListener("toggle", () => page.tell(page.told));
}

function buildDays(page) {
  const days = document.getElementById("days");
  if (HEAD.days.length === 1) {
    days.hidden = true;
    return;
  }
  const select = document.getElementById("day");
  select.append(element("option", { value: "" }, "all days"));
  for (const day of HEAD.days) select.append(element("option", { value: day }, day));
  select.addEventListener("change", () => page.showDays(select.value || null));
  document.getElementById("older").addEventListener("click", () => page.step(-1));
  document.getElementById("newer").addEventListener("click", () => page.step(1));
  page.day = HEAD.days.at(-1);
}

function switchOf(page, id, each) {
  const box = element("input", { type: "checkbox", "data-switch": id });
  box.addEventListener("change", () => page.toggle(id, box.checked));
  const key = element("i", { "data-key": id }, id in KINDS ? glyph({ kind: id, direction: "LONG" }) : "▬");
  return element("label", {}, box, id in KINDS || id in PARTS ? key : null, each.label);
}

function markControls(page) {
  for (const button of document.querySelectorAll("[data-timeframe]")) {
    button.setAttribute("aria-pressed", String(button.dataset.timeframe === page.timeframe));
  }
  for (const box of document.querySelectorAll("[data-switch]")) box.checked = page.shown(box.dataset.switch);
  for (const key of document.querySelectorAll("[data-key]")) {
    const id = key.dataset.key;
    const { colors } = page.chart ?? { colors: COLORS[page.theme] };
    key.style.color = id in PARTS ? colors[PARTS[id].color] : markColor({ kind: id, direction: "LONG" }, colors);
  }
  document.getElementById("theme").textContent = page.theme === "dark" ? "☀ light" : "☾ dark";
  const select = document.getElementById("day");
  select.value = page.day ?? "";
  document.getElementById("older").disabled = page.day === HEAD.days[0];
  document.getElementById("newer").disabled = page.day === HEAD.days.at(-1);
}
