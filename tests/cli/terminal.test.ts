import assert from "node:assert/strict";
import { stripVTControlCharacters } from "node:util";
import { ReadingServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { leftOutWithout, sendPermissions } from "./helpers.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const CTRL_C = "\x03";
const CTRL_D = "\x04";
const COLOR = "\x1b[32m";

/** util-linux's `script` gives the command a terminal of its own. */
const ignored = await leftOutWithout("script", "--version");

interface Terminal {
  readonly server: ReadingServer;
  screen(): string;
  type(text: string): Promise<void>;
}

async function onTerminal(
  options: {
    readonly env?: Record<string, string>;
    readonly args?: readonly string[];
    readonly remote?: string;
    readonly columns?: number;
  },
  use: (terminal: Terminal) => Promise<void>,
): Promise<{ readonly screen: string; readonly code: number }> {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const { remote = server.remote, columns = 150 } = options;
  const command = [
    ...[Deno.execPath(), "run", "--quiet", ...sendPermissions(remote, dir.queue), MAIN],
    ...["send", remote, "-q", dir.queue, ...options.args ?? []],
  ].map((word) => `'${word}'`).join(" ");
  await using process = new Deno.Command("script", {
    args: ["-qefc", `stty cols ${columns}; exec ${command}`, "/dev/null"],
    // Whoever runs the tests may not like colours: an empty NO_COLOR is none.
    env: { TERM: "xterm", SHELL: "/bin/sh", NO_COLOR: "", ...options.env },
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  let screen = "";
  const read = (async () => {
    for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) screen += text;
  })();
  const keyboard = process.stdin.getWriter();
  const type = (text: string) => keyboard.write(new TextEncoder().encode(text));
  await use({ server, screen: () => screen, type });
  const { code } = await process.status;
  await read;
  await keyboard.close().catch(() => {});
  return { screen, code };
}

Deno.test({
  name: `on a terminal there is a live line, in colours, that goes away at the end${ignored}`,
  ignore: ignored !== "",
  fn: async () => {
    const { screen, code } = await onTerminal({}, async ({ server, screen, type }) => {
      await type("one\n");
      await until("the packet", () => server.text === "one\n");
      await until(
        "the live line",
        () =>
          /(Connected|Delivering) · queued 1 packet, 4 B \(0 in flight, 1 held\) · delivered 0 · \d+\/s/
            .test(stripVTControlCharacters(screen())),
      );
      await until("an empty queue", () => /queued 0 packets/.test(screen()));
      await type(CTRL_D);
    });
    assert.equal(code, 0, screen);
    assert(screen.includes(COLOR));
    const last = screen.slice(screen.lastIndexOf("\x1b[2K"));
    assert.doesNotMatch(last, /queued/);
    assert.match(last, /done: 1 packet delivered/);
  },
});

Deno.test({
  name: `NO_COLOR takes the colours away; Ctrl-C stops${ignored}`,
  ignore: ignored !== "",
  fn: async () => {
    const { screen, code } = await onTerminal(
      { env: { NO_COLOR: "1" }, args: ["--follow"] },
      async ({ server, screen, type }) => {
        await type("one\n");
        await until("the packet", () => server.text === "one\n");
        await until("the live line", () => /delivered 1 /.test(screen()));
        await type(CTRL_C);
      },
    );
    assert.equal(code, 0, screen);
    assert.match(screen, /SIGINT: stopping/);
    assert.equal(screen.replaceAll("\x1b[2K", "").includes("\x1b["), false, "a colour");
  },
});

Deno.test({
  name: `a terminal of 80 columns cuts the reason, not the figures, and keeps colours${ignored}`,
  ignore: ignored !== "",
  fn: async () => {
    const { screen, code } = await onTerminal(
      { remote: "tcp://127.0.0.1:1", columns: 80, args: ["--deliver-timeout", "0s"] },
      async ({ screen, type }) => {
        await type("one\n");
        const line =
          /\p{Cc}\[2K(\p{Cc}\[31mNot delivering\p{Cc}\[0m · queued 1 packet, 4 B \(0 in flight, 0 held\) · delivered 0 · 0[^\p{Cc}]*)/u;
        await until("the live line", () => line.test(screen()));
        const [, shown = ""] = line.exec(screen()) ?? [];
        assert.equal(stripVTControlCharacters(shown).trimEnd().length, 79);
        await type(CTRL_C);
      },
    );
    assert.equal(code, 75, screen);
    assert.match(screen, /1 packet kept in \S+; the next start delivers it\r?\n/);
  },
});
