/**
 * The `send` command as a process, with the permissions that its help names.
 *
 * @module
 */

import { libcCandidates } from "../src/kernel/libc.ts";
import { libsslCandidates } from "../src/kernel/library_paths.ts";
import type { Spawn } from "./child.ts";
import { nowMs } from "./packets.ts";
import { type LogEvent, parseLogLine } from "./sender_log.ts";

const COMMAND = new URL("../src/cli/main.ts", import.meta.url).pathname;

/** How to start a {@linkcode SenderProcess}. */
export interface SenderProcessOptions {
  readonly spawn: Spawn;
  /** What stands in front of the command, such as `["env", "A=b"]`. */
  readonly wrapper?: readonly string[];
  /** Its queue's file, or the address of one in a database. */
  readonly queue: string;
  /** What it connects to besides the server, such as `"192.0.2.1:5432"`. @default nothing */
  readonly net?: readonly string[];
  /** `"192.0.2.1:4000"`, several with commas between them, or `"unix:/run/app.sock"`. */
  readonly server: string;
  /** The proxy that it goes through. */
  readonly via?: string;
  /** Speaks TLS, and trusts the authority whose certificate is in this file. */
  readonly tlsCa?: string;
  /** Further flags of `send`. */
  readonly flags?: readonly string[];
  /** Told of each log line as it comes. */
  readonly onEvent?: (event: LogEvent) => void;
}

/** How a sender ended, and its last words. */
export interface SenderEnd {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  /** The last log line, which has the final figures. */
  readonly last: LogEvent | undefined;
}

/** A running `send`. */
export class SenderProcess {
  /** Resolves at its end, once all of its log is read. */
  readonly ended: Promise<SenderEnd>;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  #last: LogEvent | undefined;

  /** Starts it. */
  constructor(options: SenderProcessOptions) {
    const { spawn, wrapper = [], queue, server, via, tlsCa, flags = [] } = options;
    const isFile = !queue.startsWith("postgres:");
    const isUnix = server.startsWith("unix:");
    const scheme = tlsCa === undefined ? "tcp" : "tls";
    const remote = isUnix ? server : `${scheme}://${server.replaceAll(",", `,${scheme}://`)}`;
    const files = [
      ...(isFile ? [queue, `${queue}.lock`] : []),
      ...(isUnix ? [server.slice("unix:".length)] : []),
    ];
    const toRead = [...files, ...(tlsCa === undefined ? [] : [tlsCa])];
    const libraries = [...libcCandidates(), ...(tlsCa === undefined ? [] : libsslCandidates())];
    const first = via === undefined ? server : new URL(via.replace(/^\w+/, "tcp")).host;
    const net = [first, ...options.net ?? []].join(",");
    const [command = "", ...args] = [
      ...wrapper,
      ...[Deno.execPath(), "run", "--quiet", "--no-prompt", `--allow-net=${net}`],
      ...(toRead.length === 0 ? [] : [`--allow-read=${toRead.join(",")}`]),
      ...(files.length === 0 ? [] : [`--allow-write=${files.join(",")}`]),
      `--allow-ffi=${libraries.map(({ path }) => path).join(",")}`,
      ...[COMMAND, "send", remote, `--queue=${queue}`],
      // The certificate of the laboratory is for this name.
      ...(tlsCa === undefined ? [] : [`--tls-ca=${tlsCa}`, "--tls-server-name=localhost"]),
      ...["--log-format=json", "--verbose", "--status-interval=0s"],
      ...(via === undefined ? [] : [`--via=${via}`]),
      ...flags,
    ];
    this.#child = spawn(command, args, { stdin: "piped", stdout: "null", stderr: "piped" });
    this.#input = this.#child.stdin.getWriter();
    this.#input.closed.catch(() => {});
    const read = this.#readLog(options.onEvent ?? (() => {}));
    this.ended = Promise.all([this.#child.status, read]).then(([{ code, signal }]) => {
      return { code, signal, last: this.#last };
    });
  }

  /** The process, also behind a wrapper that replaces itself by it. */
  get pid(): number {
    return this.#child.pid;
  }

  /**
   * Writes into the pipe; resolves once the pipe has taken it.
   *
   * @returns Whether there was still somebody to read it.
   */
  async write(text: string): Promise<boolean> {
    try {
      await this.#input.write(new TextEncoder().encode(text));
      return true;
    } catch {
      return false;
    }
  }

  /** End of input: the command delivers what it has and exits. */
  async endInput(): Promise<void> {
    await this.#input.close().catch(() => {});
  }

  /** Sends a signal; harmless after the end. */
  signal(name: Deno.Signal): void {
    try {
      this.#child.kill(name);
    } catch {
      // It has ended by itself.
    }
  }

  /** kill -9; resolves after the end. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.ended;
    await this.#input.abort().catch(() => {});
  }

  async #readLog(onEvent: (event: LogEvent) => void): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stderr.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      // A line cut short by a kill says nothing.
      rest = lines.pop() ?? "";
      for (const line of lines) {
        this.#last = parseLogLine(line, nowMs());
        onEvent(this.#last);
      }
    }
  }
}
