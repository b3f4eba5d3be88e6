/**
 * A command of sendq as a process that logs in JSON.
 *
 * @module
 */

import type { Spawn } from "./child.ts";
import { nowMs } from "./packets.ts";
import { type LogEvent, parseLogLine } from "./sender_log.ts";

/** The program, as `deno run` takes it. */
export const COMMAND = new URL("../src/cli/main.ts", import.meta.url).pathname;

/** How to start a {@linkcode CommandProcess}. */
export interface CommandProcessOptions {
  readonly spawn: Spawn;
  /** The program and its arguments, `--log-format=json` among them. */
  readonly command: readonly string[];
  /** Told of each log line as it comes. */
  readonly onEvent?: ((event: LogEvent) => void) | undefined;
}

/** How a command ended, and its last words. */
export interface CommandEnd {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  /** The last log line, which has the final figures. */
  readonly last: LogEvent | undefined;
}

/** A running command. */
export class CommandProcess {
  /** Resolves at its end, once all of its log is read. */
  readonly ended: Promise<CommandEnd>;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  #last: LogEvent | undefined;

  /** Starts it. */
  constructor({ spawn, command: [program = "", ...args], onEvent }: CommandProcessOptions) {
    this.#child = spawn(program, args, { stdin: "piped", stdout: "null", stderr: "piped" });
    this.#input = this.#child.stdin.getWriter();
    this.#input.closed.catch(() => {});
    const read = this.#readLog(onEvent ?? (() => {}));
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
