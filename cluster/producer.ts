/**
 * A process that stores packets, and its record.
 *
 * @module
 */

import { LineChild } from "../lab/child.ts";
import { packetOf } from "../lab/packets.ts";
import type { ClusterNetwork, Host } from "./network.ts";

const PROGRAM = new URL("./producer_program.ts", import.meta.url).pathname;
const PACKET_BYTES = 100;

/** What became of one packet. */
export interface Outcome {
  /** The packet as it goes on the wire. */
  readonly packet: string;
  /** Under which id it is stored; `undefined`: it was refused, so that it is not stored. */
  readonly id: number | undefined;
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
  /** Why it was refused. */
  readonly words: string;
}

/** How to start a {@linkcode Producer}. */
export interface ProducerOptions {
  readonly host: Host;
  /** The queue's address, or its file. */
  readonly queue: string;
  /** With which its packets begin; each producer has its own. */
  readonly letter: string;
  readonly perSecond: number;
  /** Where its record lies; must not exist. */
  readonly record: string;
  /** For how long it waits for the queue before a packet is refused. */
  readonly busyTimeoutMs: number;
}

/** A running producer. */
export class Producer implements AsyncDisposable {
  readonly #child: LineChild;
  readonly #options: ProducerOptions;
  #offset = 0;
  #rest = "";
  readonly #outcomes: Outcome[] = [];

  private constructor(child: LineChild, options: ProducerOptions) {
    this.#child = child;
    this.#options = options;
  }

  /** Starts one; resolves once it has opened the queue. */
  static async start(network: ClusterNetwork, options: ProducerOptions): Promise<Producer> {
    const { host, queue, letter, perSecond, record, busyTimeoutMs } = options;
    const child = new LineChild(network.spawnerIn(host), Deno.execPath(), [
      ...["run", "--quiet", "--allow-all", PROGRAM, queue, letter, String(perSecond)],
      ...[String(PACKET_BYTES), record, String(busyTimeoutMs)],
    ]);
    await child.hear();
    return new Producer(child, options);
  }

  /** What is known so far. */
  outcomes(): readonly Outcome[] {
    const file = Deno.openSync(this.#options.record);
    try {
      const bytes = new Uint8Array(file.statSync().size - this.#offset);
      file.seekSync(this.#offset, Deno.SeekMode.Start);
      for (let at = 0; at < bytes.length;) {
        const n = file.readSync(bytes.subarray(at));
        if (n === null) throw new Error(`${this.#options.record} became shorter`);
        at += n;
      }
      this.#offset += bytes.length;
      const lines = (this.#rest + new TextDecoder().decode(bytes)).split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) this.#outcomes.push(this.#parse(line));
    } finally {
      file.close();
    }
    return this.#outcomes;
  }

  /** Asks for nothing more; resolves once it knows what became of each packet. */
  async stop(): Promise<void> {
    await this.#child.say("stop");
    await this.#child.hear();
  }

  /** Kills it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child[Symbol.asyncDispose]();
  }

  #parse(line: string): Outcome {
    const { letter } = this.#options;
    const stored = /^stored (\d+) (\d+) (\S+) (\S+)$/.exec(line);
    const refused = /^refused (\d+) (\S+) (\S+) (.*)$/.exec(line);
    const [, number = "", ...rest] = stored ?? refused ?? [];
    if (number === "") throw new Error(`${this.#options.record} has the line: ${line}`);
    const [id, askedAt, answeredAt, words = ""] = stored === null ? [undefined, ...rest] : rest;
    return {
      packet: packetOf(letter, Number(number), PACKET_BYTES),
      id: id === undefined ? undefined : Number(id),
      askedAtMs: Number(askedAt),
      answeredAtMs: Number(answeredAt),
      words,
    };
  }
}
