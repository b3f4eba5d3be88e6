/**
 * `send` as a process, with an example's route file or with flags, and the permissions
 * that its help names.
 *
 * @module
 */

import { nowMs } from "../lab/packets.ts";
import { type LogEvent, parseLogLine } from "../lab/sender_log.ts";
import { libcCandidates } from "../src/kernel/libc.ts";
import { type Place, type ServerCase, socketOf } from "./case.ts";
import { remember } from "./running.ts";

const COMMAND = new URL("../src/cli/main.ts", import.meta.url).pathname;
const EXAMPLES = new URL("../examples/protocols/", import.meta.url).pathname;
const LOG_FLAGS = ["--log-format=json", "--verbose", "--status-interval=0s"];

/** A running `send`. */
export class SenderProcess implements AsyncDisposable {
  /** Its log so far. */
  readonly events: LogEvent[] = [];
  readonly queue: string;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #log: Promise<void>;

  /** @param flags Further flags of `send`, behind those of `sending`. */
  constructor(
    { sending, connects, unixSocket }: Pick<ServerCase, "sending" | "connects" | "unixSocket">,
    { port, work }: Place,
    flags: readonly string[] = [],
  ) {
    this.queue = `${work}/outbox.db`;
    const socket = unixSocket ? [socketOf({ work })] : [];
    const [remote, granted] = unixSocket
      ? [`unix:${socket[0]}`, `unix:${socket[0]}`]
      : [`${connects ? "listen" : "tcp"}://127.0.0.1:${port}`, `127.0.0.1:${port}`];
    const files = "example" in sending ? sending.files ?? {} : {};
    for (const [name, bytes] of Object.entries(files)) {
      Deno.writeFileSync(`${work}/${name}`, bytes);
    }
    const queue = [this.queue, `${this.queue}.lock`, ...socket].join(",");
    const config = "example" in sending ? `${EXAMPLES}${sending.example}` : undefined;
    const readable = [queue, config ?? [], Object.keys(files)].flat().join(",");
    const sendq = `${work}/sendq`;
    // What `deno install` would have made of it: a command by this name.
    Deno.writeTextFileSync(
      sendq,
      `#!/bin/sh
exec '${Deno.execPath()}' run --quiet --no-prompt --no-check --allow-net=${granted} \\
  '--allow-read=${readable}' '--allow-write=${queue}' \\
  '--allow-ffi=${libcCandidates().map(({ path }) => path).join(",")}' '${COMMAND}' "$@"
`,
      { mode: 0o755 },
    );
    const of = "example" in sending ? ["--config", `${config}`] : sending.flags;
    this.#child = new Deno.Command(sendq, {
      args: ["send", remote, "--queue", this.queue, ...of, ...LOG_FLAGS, ...flags],
      cwd: work,
      env: { NO_COLOR: "1" },
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    remember(this.#child, () => this.#child.kill("SIGKILL"));
    this.#input = this.#child.stdin.getWriter();
    this.#input.closed.catch(() => {});
    this.#log = this.#readLog();
  }

  /** How often it has connected, its session opened. */
  get connections(): number {
    return this.events.filter(({ message }) => message.startsWith("connected to")).length;
  }

  /** Writes a packet; resolves once the pipe has taken it. */
  async write(packet: Uint8Array | string): Promise<void> {
    await this.#input.write(typeof packet === "string" ? new TextEncoder().encode(packet) : packet);
  }

  /** The end of the input. */
  async endInput(): Promise<void> {
    await this.#input.close().catch(() => {});
  }

  /** Its exit code; -1 where it has not ended in time and was killed. */
  async ended(withinMs: number): Promise<number> {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      this.signal("SIGKILL");
    }, withinMs);
    const { code } = await this.#child.status;
    clearTimeout(timer);
    await this.#log;
    return late ? -1 : code;
  }

  /** Sends a signal; harmless after the end. */
  signal(name: Deno.Signal): void {
    try {
      this.#child.kill(name);
    } catch {
      // It has ended by itself.
    }
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.signal("SIGKILL");
    await this.#child.status;
    await this.#log;
    await this.#input.abort().catch(() => {});
  }

  async #readLog(): Promise<void> {
    let rest = "";
    for await (const part of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + part).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.events.push(parseLogLine(line, nowMs()));
    }
    if (rest !== "") this.events.push(parseLogLine(rest, nowMs()));
  }
}
