/**
 * Child processes that speak in lines.
 *
 * @module
 */

/** Starts a command somewhere: on this machine or inside a network namespace. */
export type Spawn = (
  command: string,
  args: readonly string[],
  options: Deno.CommandOptions,
) => Deno.ChildProcess;

/** Starts a command on this machine. */
export function spawnHere(
  command: string,
  args: readonly string[],
  options: Deno.CommandOptions,
): Deno.ChildProcess {
  return new Deno.Command(command, { ...options, args: [...args] }).spawn();
}

/** A child that takes lines and answers in lines; killed on dispose. */
export class LineChild implements AsyncDisposable {
  /** The process, for signals. */
  readonly process: Deno.ChildProcess;
  #lines: ReadableStreamDefaultReader<string>;
  #input: WritableStreamDefaultWriter<Uint8Array>;
  #rest = "";
  #ended = false;

  /**
   * @param spawn Where to start it.
   * @param command The program.
   * @param args Its arguments.
   */
  constructor(spawn: Spawn, command: string, args: readonly string[]) {
    this.process = spawn(command, args, { stdin: "piped", stdout: "piped", stderr: "inherit" });
    this.#lines = this.process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#input = this.process.stdin.getWriter();
  }

  /** Writes one line to the child. */
  async say(line: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(line + "\n"));
  }

  /**
   * Reads the next line.
   *
   * @throws {Error} The child ended.
   */
  async hear(): Promise<string> {
    while (true) {
      const end = this.#rest.indexOf("\n");
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return line;
      }
      const { value, done } = await this.#lines.read();
      if (done) throw new Error("the child ended without an answer; see its standard error");
      this.#rest += value;
    }
  }

  /** Sends a signal and, for SIGKILL, waits for the end. */
  async signal(name: Deno.Signal): Promise<void> {
    this.process.kill(name);
    if (name === "SIGKILL") await this[Symbol.asyncDispose]();
  }

  /** Kills the child and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    try {
      this.process.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.process.status;
    await this.#input.abort().catch(() => {});
    await this.#lines.cancel().catch(() => {});
  }
}
