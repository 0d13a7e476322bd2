// What can be drawn: panes, lines, histograms, and the switches that hide them.

const PANES = [
  { id: "price", title: "Price", weight: 4 },
  { id: "volume", title: "Volume by tier", weight: 1, on: true, needs: ["volume_1m"] },
  { id: "cvd", title: "CVD", weight: 1.2, on: true, needs: ["cvd_1m"] },
  { id: "score", title: "Order flow", weight: 0.8, on: "wide", needs: ["orderflow_1m"] },
  { id: "vpin", title: "VPIN", weight: 0.8, on: "wide", needs: ["vpin"], column: "vpin" },
  { id: "lambda", title: "Kyle’s λ", weight: 0.8, on: "wide", needs: ["impact_1m"], column: "kyle_lambda" },
  { id: "ofi", title: "OFI and depth", weight: 0.8, on: false, needs: ["flow_1m"], column: "ofi_momentum" },
  { id: "spread", title: "Spread", weight: 0.7, on: false, needs: ["micro_1m"], column: "spread_bps" },
  { id: "interest", title: "Open interest", weight: 0.8, on: "present", needs: ["open_interest_1m"] },
  { id: "liquidations", title: "Liquidations", weight: 0.8, on: "present", needs: ["liquidations_1m"] },
  { id: "quality", title: "Data quality", weight: 0.55, on: true },
];

// `asOf`: the last value that was known; `session`: it begins anew at midnight UTC.
const LINES = [
  { id: "vwap", layer: "vwap_1m", column: "session_vwap", color: "vwap", width: 2, session: true, part: "vwap" },
  ...[1, 2, 3].flatMap((k) =>
    ["upper", "lower"].map((side) => ({
      id: `${side}_${k}`,
      layer: "vwap_1m",
      column: `${side}_${k}`,
      color: `band${k}`,
      width: 1,
      session: true,
      part: "bands",
    })),
  ),
  ...["1h", "4h", "24h"].map((window) => ({
    id: `rolling_${window}`,
    layer: "vwap_1m",
    column: `rolling_vwap_${window}`,
    color: `rolling${window}`,
    width: 1,
    part: "rolling",
  })),
  { id: "mid", layer: "micro_1m", column: "mid", color: "text", width: 1, part: "mid" },
  { id: "poc", layer: "profile_session", column: "poc", color: "poc", width: 1, step: true, asOf: true, session: true, part: "developing" },
  { id: "vah", layer: "profile_session", column: "vah", color: "value", width: 1, step: true, asOf: true, session: true, dotted: true, part: "developing" },
  { id: "val", layer: "profile_session", column: "val", color: "value", width: 1, step: true, asOf: true, session: true, dotted: true, part: "developing" },
  { id: "cvd", pane: "cvd", layer: "cvd_1m", column: "session_cvd", color: "cvd", width: 2, session: true },
  { id: "vpin", pane: "vpin", layer: "vpin", column: "vpin", color: "normal", width: 2, step: true, asOf: true, colorBy: "level" },
  { id: "lambda", pane: "lambda", layer: "impact_1m", column: "kyle_lambda", color: "lambda", width: 2 },
  { id: "ofi", pane: "ofi", layer: "flow_1m", column: "ofi_momentum", color: "ofi", width: 2 },
  { id: "depth", pane: "ofi", layer: "micro_1m", column: "depth_imbalance", color: "depth", width: 1 },
  { id: "spread", pane: "spread", layer: "micro_1m", column: "spread_bps", color: "spread", width: 1 },
  { id: "interest", pane: "interest", layer: "open_interest_1m", column: "open_interest", color: "ofi", width: 2 },
];

// What can be switched on and off on the price pane, beside the kinds of events.
const PARTS = {
  vwap: { label: "Session VWAP", layer: "vwap_1m", color: "vwap", on: true },
  bands: { label: "VWAP bands 1, 2, 3 σ", color: "band1", on: true },
  rolling: { label: "Rolling VWAP 1, 4, 24 h", color: "rolling4h", on: false },
  mid: { label: "Mid price", color: "text", on: "without trades" },
  developing: { label: "POC and value area as they developed", color: "poc", on: true },
  profile: { label: "Volume profile", layer: "profile_session", color: "value", on: true },
  day24: { label: "Profile of 24 hours in place of the session", color: "value", on: false },
  wicks: { label: "Untouched wicks", layer: "wicks_5m", color: "wick", on: true },
  touched: { label: "Wicks that were touched", color: "wick", on: false },
  walls: { label: "Liquidity walls", layer: "buckets_1m", color: "bidWall", on: true },
  poor: { label: "Poor and unfinished highs and lows", color: "poor", on: true },
};

const COLORS = {
  dark: {
    background: "#0f131a", grid: "#1b222c", text: "#c7d0db", muted: "#8a95a3", border: "#28313d",
    up: "#26a69a", down: "#ef5350", vwap: "#4c9aff", band1: "#4c9affb0", band2: "#4c9aff80",
    band3: "#4c9aff55", rolling1h: "#7dd3fc", rolling4h: "#a78bfa", rolling24h: "#f9a8d4",
    poc: "#f5c542", value: "#b99a45", cvd: "#e0e6ee", lambda: "#c792ea", ofi: "#4dd0e1",
    depth: "#8a95a3", spread: "#ffb86c", wick: "#9fb0c3", poor: "#ff9e64", bidWall: "#2dd4bf",
    askWall: "#ff7a70", T0: "#4b5563", T1: "#55616f", T2: "#4f83cc", T3: "#e0a83a", T4: "#f2643d",
    signal: "#ffffff", warning: "#f5c542", rule: "#e879f9", absorption: "#38bdf8",
    divergence: "#fb923c", normal: "#7fb77e", elevated: "#f5c542", high: "#fb923c",
    extreme: "#ef5350", ok: "#2f6f5f", quiet: "#2b3440", gap: "#ef5350", without: "#f5c542", stalled: "#a3781f",
  },
  light: {
    background: "#ffffff", grid: "#eef1f4", text: "#1d2733", muted: "#66727f", border: "#d5dbe2",
    up: "#0b9981", down: "#e0393e", vwap: "#1f6fe5", band1: "#1f6fe5a0", band2: "#1f6fe570",
    band3: "#1f6fe545", rolling1h: "#0284c7", rolling4h: "#7c3aed", rolling24h: "#db2777",
    poc: "#c08a00", value: "#a58a3a", cvd: "#334155", lambda: "#8b3fc7", ofi: "#0891b2",
    depth: "#8a95a3", spread: "#c2620c", wick: "#64748b", poor: "#d9600f", bidWall: "#0d9488",
    askWall: "#e0533f", T0: "#c6ccd4", T1: "#b4bcc6", T2: "#6b9be0", T3: "#e5aa2f", T4: "#e2562b",
    signal: "#111827", warning: "#b98900", rule: "#c026d3", absorption: "#0284c7",
    divergence: "#dd6b0f", normal: "#3f9142", elevated: "#b98900", high: "#dd6b0f",
    extreme: "#d32f2f", ok: "#a7d7c5", quiet: "#e3e7ec", gap: "#e0393e", without: "#e0a800", stalled: "#f0cf7a",
  },
};

const TIERS = ["T1", "T2", "T3", "T4"];
