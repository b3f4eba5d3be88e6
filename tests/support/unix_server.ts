/**
 * A server on a Unix socket, as a process of its own: one that can be killed.
 *
 * @module
 */

import { until, within } from "./until.ts";

const PROGRAM = new URL("unix_server_child.ts", import.meta.url).pathname;

/** Reads connections one after the other, and tells what it has read. */
export class UnixServerProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: Promise<void>;
  /** What it has read; it told of it before it read on. */
  text = "";

  /**
   * @param path Where it listens; what was left there by another one is removed.
   * @param readBytes How much it reads at first; more by {@linkcode readOn}.
   * @param answer What it says to each line.
   */
  constructor(path: string, readBytes: number = Infinity, answer = "") {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--no-prompt", `--allow-net=unix:${path}`],
        ...[`--allow-read=${path}`, `--allow-write=${path}`],
        ...[PROGRAM, path, String(readBytes), answer],
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#output = (async () => {
      const text = child.stdout.pipeThrough(new TextDecoderStream());
      for await (const part of text) this.text += part;
    })();
  }

  /** Waits until it listens. */
  async listening(): Promise<this> {
    await until("the server listens", () => this.text.startsWith("listening\n"));
    this.text = this.text.slice("listening\n".length);
    return this;
  }

  /** Has it read so many bytes more. */
  async readOn(bytes: number): Promise<void> {
    await this.#input.write(new TextEncoder().encode(`${bytes}\n`));
  }

  /** `kill -9`; resolves once it is gone and all that it has told has come. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await within("the server is gone", this.#child.status);
    await this.#output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It is gone already.
    }
    await this.#child.status;
    await this.#output;
    await this.#input.abort().catch(() => {});
  }
}
