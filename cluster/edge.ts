/**
 * An edge: a machine that stores packets into a file of its own, whether or not it reaches
 * the cluster, and the real `forward` command beside.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { COMMAND, CommandProcess } from "../lab/command_process.ts";
import type { Spawn } from "../lab/child.ts";
import type { LogEvent } from "../lab/sender_log.ts";
import type { QueueCounts } from "../src/queue/inspect/inspection.ts";
import { QueueInspector } from "../src/queue/inspect/inspector.ts";
import { queueUrl } from "./database_cluster.ts";
import { DATABASE_PORT } from "./database_machine.ts";
import { addressOf, type ClusterNetwork, DATABASES, type EdgeHost } from "./network.ts";
import { type Outcome, Producer } from "./producer.ts";
import { Service, type ServiceEnd } from "./service.ts";
import { until } from "./watcher.ts";

/** A file is never away for long: a packet that it refuses is a fault. */
const BUSY_TIMEOUT_MS = 600_000;
/** On a busy machine. */
const BEGUN_DEADLINE_MS = 60_000;
/** Every so many kills come while the command starts, the others once it forwards. */
const EARLY_KILL = 5;
/** Kills are spread over so much time, and all moments of it are about as likely. */
const EARLY_MS = 1000;
const FORWARDING_MS = 200;
/** Prime to both. */
const STRIDE_MS = 37;

/** How to start an {@linkcode Edge}. */
export interface EdgeOptions {
  readonly host: EdgeHost;
  /** With which its packets begin. */
  readonly letter: string;
  readonly perSecond: number;
  /** Where its file and its records lie; it exists. */
  readonly directory: string;
}

/** A running edge. */
export class Edge implements AsyncDisposable {
  readonly host: EdgeHost;
  readonly letter: string;
  readonly #file: string;
  readonly #producer: Producer;
  readonly #forwarder: Service;

  private constructor(
    { host, letter }: EdgeOptions,
    file: string,
    producer: Producer,
    forwarder: Service,
  ) {
    this.host = host;
    this.letter = letter;
    this.#file = file;
    this.#producer = producer;
    this.#forwarder = forwarder;
  }

  /** Starts one; resolves once it stores packets. */
  static async start(network: ClusterNetwork, options: EdgeOptions): Promise<Edge> {
    const { host, letter, perSecond, directory } = options;
    const file = `${directory}/${host}.db`;
    const producer = await Producer.start(network, {
      ...{ host, letter, perSecond, queue: file, busyTimeoutMs: BUSY_TIMEOUT_MS },
      record: `${directory}/${host}.record`,
    });
    const forwarder = new Service({
      host,
      run: (onEvent) => forward(network.spawnerIn(host), file, host, onEvent),
      ready: /^forwards to /,
      log: `${directory}/edges.log`,
    });
    forwarder.start();
    return new Edge(options, file, producer, forwarder);
  }

  /** What the file has said of each packet so far. */
  outcomes(): readonly Outcome[] {
    return this.#producer.outcomes();
  }

  /** How its forwarder ended where nobody had killed it. */
  get ends(): readonly ServiceEnd[] {
    return this.#forwarder.ends;
  }

  /** What is in its file. */
  async counts(): Promise<QueueCounts> {
    using file = await QueueInspector.open(this.#file);
    return await file.counts();
  }

  /**
   * Kills the forwarder again and again, at one moment and another, and starts it after each.
   *
   * @param afterKill Called while none runs.
   * @throws {Error} One that was started never forwarded.
   */
  async killForwarder(times: number, afterKill: () => Promise<void>): Promise<void> {
    for (let round = 1; round <= times; round++) {
      const spreadMs = round % EARLY_KILL === 0 ? EARLY_MS : FORWARDING_MS;
      if (spreadMs === FORWARDING_MS && !await this.#untilForwarding()) {
        throw new Error(`the forwarder of ${this.host} did not begin after kill ${round - 1}`);
      }
      await delay(round * STRIDE_MS % spreadMs);
      await this.#forwarder.kill();
      await afterKill();
      this.#forwarder.start();
    }
  }

  /** Stores nothing more; resolves once it knows what became of each packet. */
  async stopStoring(): Promise<void> {
    await this.#producer.stop();
  }

  /** Ends the forwarder in order, for good. */
  async stopForwarder(): Promise<void> {
    await this.#forwarder.stop();
  }

  /** Kills all of it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#forwarder[Symbol.asyncDispose]();
    await this.#producer[Symbol.asyncDispose]();
  }

  #untilForwarding(): Promise<boolean> {
    return until(BEGUN_DEADLINE_MS, () => this.#forwarder.isReady);
  }
}

/** `sendq forward`, with the permissions that docs/CLUSTER.md names. */
function forward(
  spawn: Spawn,
  file: string,
  edge: string,
  onEvent: (event: LogEvent) => void,
): CommandProcess {
  const databases = DATABASES.map((host) => `${addressOf(host)}:${DATABASE_PORT}`);
  const files = `${file},${file}.lock`;
  return new CommandProcess({
    spawn,
    command: [
      ...[Deno.execPath(), "run", "--quiet", "--no-prompt", `--allow-net=${databases.join(",")}`],
      ...[`--allow-read=${files}`, `--allow-write=${files}`],
      ...[COMMAND, "forward", `--queue=${file}`, `--to=${queueUrl("producer")}`, `--edge=${edge}`],
      ...["--log-format=json", "--verbose", "--status-interval=0s"],
    ],
    onEvent,
  });
}
