/**
 * Starts and commands a recording server.
 *
 * @module
 */

import { LineChild, type Spawn, spawnHere } from "./child.ts";
import { type Framing, RecordReader } from "./record.ts";

const RECORDER = new URL("./recorder.ts", import.meta.url).pathname;

/** How to start a recording server. */
export interface RecorderOptions {
  /** Where it writes; must not exist. One file for each life of the server. */
  readonly record: string;
  /** @default {"lines"} */
  readonly framing?: Framing;
  /** @default {"127.0.0.1"} */
  readonly address?: string;
  /** @default {0} any free port */
  readonly port?: number;
  /** The Unix socket on which it listens, instead of address and port. */
  readonly unix?: string;
  /** SO_RCVBUF of its connections. @default the kernel's */
  readonly receiveBufferBytes?: number;
  /** Files of a certificate and its key, to speak TLS. @default plain TCP */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Commands to carry out before it listens, for example `["stop-reading"]`. */
  readonly commands?: readonly string[];
  /** Where it runs. @default {spawnHere} */
  readonly spawn?: Spawn;
}

/**
 * A running recorder.
 *
 * @example
 * ```ts ignore
 * await using server = await RecorderProcess.start({ record: "server.record" });
 * await server.command("read-rate 1000");
 * await server.signal("SIGKILL");
 * console.log(readRecord("server.record"));
 * ```
 */
export class RecorderProcess implements AsyncDisposable {
  /** Where it listens. */
  readonly port: number;
  /** What it has read so far: call `update()`. */
  readonly reader: RecordReader;
  #child: LineChild;

  private constructor(child: LineChild, port: number, record: string) {
    this.#child = child;
    this.port = port;
    this.reader = new RecordReader(record);
  }

  /** Starts one; resolves once it listens. */
  static async start(options: RecorderOptions): Promise<RecorderProcess> {
    const { record, framing = "lines", address = "127.0.0.1", port = 0, commands = [] } = options;
    const child = new LineChild(options.spawn ?? spawnHere, Deno.execPath(), [
      ...["run", "--quiet", "--no-config", "--allow-all", RECORDER],
      ...[`--record=${record}`, `--framing=${framing}`, `--address=${address}`, `--port=${port}`],
      ...(options.receiveBufferBytes === undefined
        ? []
        : [`--receive-buffer=${options.receiveBufferBytes}`]),
      ...(options.unix === undefined ? [] : [`--unix=${options.unix}`]),
      ...(options.tls === undefined ? [] : [`--tls=${options.tls.cert},${options.tls.key}`]),
      ...commands,
    ]);
    try {
      const { listening } = JSON.parse(await child.hear());
      return new RecorderProcess(child, Number(listening), record);
    } catch (error) {
      await child[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Gives one of the recorder's commands; resolves once it is carried out. */
  async command(line: string): Promise<void> {
    await this.#child.say(line);
    const answer = await this.#child.hear();
    if (answer !== JSON.stringify({ done: line })) {
      throw new Error(`recorder answered ${answer} to ${line}`);
    }
  }

  /** `SIGKILL`, `SIGSTOP`, `SIGCONT`; resolves after the end for `SIGKILL`. */
  async signal(name: Deno.Signal): Promise<void> {
    await this.#child.signal(name);
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }
}
