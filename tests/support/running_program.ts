/**
 * Programs that run beside a test: what they print is kept, and they end with it.
 *
 * @module
 */

import { until } from "./until.ts";

/** A child process with pipes; killed on dispose. */
export class RunningProgram implements AsyncDisposable {
  readonly child: Deno.ChildProcess;
  stdout = "";
  stderr = "";
  #input: WritableStreamDefaultWriter<Uint8Array>;
  #outputs: Promise<unknown>;

  /** @param child Started with three pipes. */
  constructor(child: Deno.ChildProcess) {
    this.child = child;
    this.#input = child.stdin.getWriter();
    this.#outputs = Promise.all([
      collect(child.stdout, (text) => this.stdout += text),
      collect(child.stderr, (text) => this.stderr += text),
    ]);
  }

  /** Writes to its stdin; resolves once the pipe has taken it. */
  async write(data: string | Uint8Array): Promise<void> {
    await this.#input.write(typeof data === "string" ? new TextEncoder().encode(data) : data);
  }

  /** Ends its stdin. */
  async endInput(): Promise<void> {
    await this.#input.close();
  }

  /** Waits until stderr holds this. */
  async says(pattern: RegExp): Promise<void> {
    await until(`${pattern} on standard error`, () => pattern.test(this.stderr))
      .catch((error) => {
        throw new Error(`${error.message}, but: ${this.stderr}`);
      });
  }

  /** Waits for the end. Returns the exit code. */
  async ended(): Promise<number> {
    const { code } = await this.child.status;
    await this.#outputs;
    return code;
  }

  /** Gives it an input, and waits for the end. */
  async runWith(input: string | Uint8Array): Promise<number> {
    // Where it exits without reading, the pipe is broken.
    await this.write(input).then(() => this.endInput()).catch(() => {});
    return await this.ended();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.child.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.child.status;
    await this.#outputs;
    await this.#input.abort().catch(() => {});
  }
}

async function collect(stream: ReadableStream<Uint8Array>, take: (text: string) => void) {
  try {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) take(text);
  } catch (error) {
    // The test has cancelled it, to break the pipe.
    if (!(error instanceof TypeError)) throw error;
  }
}
