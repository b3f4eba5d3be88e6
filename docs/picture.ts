/**
 * Runs the demo and draws what it prints as docs/demo.svg, for those who would rather
 * look than read: `deno task docs:demo`.
 *
 * @module
 */

const FONT_PX = 13;
const CHARACTER_PX = 7.83; // of the widest of the fonts below
const LINE_PX = 19;
const MARGIN_PX = 16;
const COLUMNS = 104;

const PAPER = "#14181f";
const COLORS = {
  plain: "#c9d1d9",
  fault: "#ff8f87",
  good: "#7ee08a",
  bar: "#79b8ff",
  faint: "#8b949e",
} as const;

/** A line to be drawn, and in which color. */
interface Line {
  readonly text: string;
  readonly color: string;
}

/** Runs the demo without a terminal: each line that it prints stays. */
async function runDemo(): Promise<string[]> {
  const { success, stdout, stderr } = await new Deno.Command("deno", {
    args: ["task", "--quiet", "demo"],
    cwd: new URL("..", import.meta.url),
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`The demo failed:\n${decoder.decode(stderr)}`);
  return decoder.decode(stdout).trimEnd().split("\n");
}

/** The story and the count; what explains them at length is left to those who run it. */
function partsToShow(printed: readonly string[]): string[] {
  const end = printed.findIndex((line) => line.startsWith("Compared packet by packet"));
  const shown = printed.slice(0, end === -1 ? printed.length : end);
  // An empty bar says nothing yet.
  return shown.filter((line) => !line.includes("] 0 of") && !/^ *░+ 0 of/.test(line));
}

function colorOf(line: string): string {
  if (/^ *█+/.test(line)) return COLORS.bar;
  if (/killed|cut:|given up|FAILED/.test(line)) return COLORS.fault;
  if (/is back|whole again|get through again|^ {2}(delivered|lost) /.test(line)) {
    return COLORS.good;
  }
  return /^\S/.test(line) ? COLORS.faint : COLORS.plain;
}

/** A line too long for the picture goes on below, further to the right. */
function wrap(line: string): string[] {
  if (line.length <= COLUMNS) return [line];
  const at = line.lastIndexOf(" ", COLUMNS);
  return [line.slice(0, at), ...wrap(`         ${line.slice(at + 1)}`)];
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function draw(lines: readonly Line[]): string {
  const width = Math.ceil(COLUMNS * CHARACTER_PX + 2 * MARGIN_PX);
  const height = lines.length * LINE_PX + 2 * MARGIN_PX;
  const rows = lines.map(({ text, color }, row) => {
    const y = MARGIN_PX + row * LINE_PX + FONT_PX;
    return `<text x="${MARGIN_PX}" y="${y}" fill="${color}" xml:space="preserve">${
      escape(text)
    }</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img"`,
    `  font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"`,
    `  font-size="${FONT_PX}">`,
    `<title>deno task demo</title>`,
    `<rect width="${width}" height="${height}" rx="8" fill="${PAPER}"/>`,
    ...rows,
    "</svg>",
    "",
  ].join("\n");
}

const command: Line = { text: "$ deno task demo", color: COLORS.faint };
const lines = partsToShow(await runDemo()).flatMap((line) =>
  wrap(line.trimEnd()).map((text): Line => ({ text, color: colorOf(line) }))
);
await Deno.writeTextFile(new URL("demo.svg", import.meta.url), draw([command, ...lines]));
