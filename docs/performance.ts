/**
 * Puts docs/performance.json, what `deno task bench --json` has printed, into
 * docs/PERFORMANCE.md as a table, and draws docs/performance.svg from it:
 * `deno task docs:performance`.
 *
 * @module
 */

import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { type Figure, tableOf } from "../bench/table.ts";

/** One bar: who, at what rate, and what happens to what is on disk when the power goes. */
interface Bar {
  readonly who: string;
  readonly rate: number;
  readonly label: string;
  readonly kept: string;
}

const SURVIVES = "on disk before it counts: survives a power cut";
const LOST = "never synced: a power cut loses the latest";

/** What the table stands between. */
const BEGIN = "<!-- figures -->";
const END = "<!-- end of figures -->";

/** Where the bars begin, in packets a second. */
const LEAST = 100;

/** Who is shown, by the figure's name. */
const SHOWN: readonly (readonly [name: string, who: string, kept: string])[] = [
  ["power-loss, 100 B, 10000 enqueuers", "sendq, 10,000 callers", SURVIVES],
  ["power-loss, 100 B, 100 enqueuers", "sendq, 100 callers", SURVIVES],
  ["syslog-ng, reliable disk buffer, no sync", "syslog-ng, reliable buffer", LOST],
  ["power-loss, 100 B, 1 enqueuer", "sendq, one caller", SURVIVES],
  ["rsyslog, disk queue with sync", "rsyslog, disk queue with sync", SURVIVES],
];

/** The picture of these figures. */
export async function draw(figures: readonly Figure[]): Promise<string> {
  const bars = SHOWN.map(([name, who, kept]): Bar => {
    const rate = figures.find((figure) => figure.name === name)?.value.median;
    if (rate === undefined) throw new Error(`the figures have no "${name}"`);
    return { who, rate, label: Number(rate.toPrecision(3)).toLocaleString("en"), kept };
  });
  const y = { field: "who", type: "nominal", sort: null, title: null } as const;
  const spec: TopLevelSpec = {
    width: 520,
    height: { step: 34 },
    padding: 12,
    background: "white",
    title: {
      text: "Packets a second of 100 bytes, through a queue on disk, to a TCP server",
      anchor: "start",
    },
    data: { values: bars },
    encoding: { y: { ...y, axis: { labelLimit: 0, labelFontSize: 13 } } },
    layer: [
      {
        mark: { type: "bar", height: 20 },
        encoding: {
          x: {
            field: "rate",
            type: "quantitative",
            scale: { type: "log", domain: [LEAST, 3_000_000], nice: false },
            axis: {
              title: "packets a second, each step ten times as many",
              format: "~s",
              values: [100, 1000, 10_000, 100_000, 1_000_000],
            },
          },
          // A logarithmic scale has no 0 for the bars to begin at.
          x2: { datum: LEAST },
          color: {
            field: "kept",
            type: "nominal",
            scale: { domain: [SURVIVES, LOST], range: ["#2b6cb0", "#c9a227"] },
            legend: { orient: "bottom", title: null, labelLimit: 0, labelFontSize: 12, columns: 1 },
          },
        },
      },
      {
        mark: { type: "text", align: "left", dx: 5, fontSize: 13 },
        encoding: {
          x: { field: "rate", type: "quantitative" },
          text: { field: "label" },
        },
      },
    ],
    config: { font: "sans-serif", view: { stroke: null } },
  };
  const svg = await new View(parse(compile(spec).spec), { renderer: "none" }).toSVG();
  return `${svg}\n`;
}

/** `page` with the table of these figures in the place of the one that it has. */
export function withTable(page: string, figures: readonly Figure[]): string {
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  if (after === undefined) throw new Error(`the page has no ${BEGIN} or no ${END}`);
  return `${before}${BEGIN}\n\n${tableOf(figures)}\n\n${END}${after}`;
}

if (import.meta.main) {
  const { default: figures } = await import("./performance.json", { with: { type: "json" } });
  const path = new URL("PERFORMANCE.md", import.meta.url);
  await Deno.writeTextFile(path, withTable(await Deno.readTextFile(path), figures));
  await Deno.writeTextFile(new URL("performance.svg", import.meta.url), await draw(figures));
}
