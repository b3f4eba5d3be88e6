/**
 * One soak: two processes enqueue into one file, one of them sends, a server reads, and what the
 * plan says is broken and mended, until the time is over and everything has to be delivered.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { type Spawn, spawnHere } from "../lab/child.ts";
import type { Heal, TestNetwork } from "../lab/network.ts";
import { nowMs } from "../lab/packets.ts";
import { RecorderProcess } from "../lab/recorder_process.ts";
import { GIVEN_UP, type LogEvent } from "../lab/sender_log.ts";
import { OutboundQueue } from "../mod.ts";
import { type Fault, planFaults } from "./plan.ts";
import { unreadBytes, usageOf } from "./proc.ts";
import { ProducerProcess } from "./producer.ts";
import { RecordTail } from "./record_tail.ts";
import type { Figures } from "./report.ts";
import { Tally } from "./tally.ts";
import type { Sample } from "./trend.ts";

/** Packets of each size are sent, most by the sending process and the rest by the other one. */
const PACKET_BYTES = 100;
const SENDER_PER_SECOND = 1500;
const ENQUEUER_PER_SECOND = 500;
/**
 * Twice the default, so that a server that reads at once is never further behind when it is
 * killed, also where this machine is busy with other things.
 */
const HOLD_MS = 2_000;
/** How far a server is behind that dies with packets unread: half of what the hold covers. */
const UNREAD_MS = HOLD_MS / 2;
const SAMPLE_MS = 5_000;
/** A short run has samples enough for medians, too. */
const MIN_SAMPLES = 24;
const TAIL_MS = 100;
/** Between the mending of a fault that took long and the next one. */
const REST_MS = 1_000;
/** For the last packets; generous, for it only ends a failed run. */
const FINISH_DEADLINE_MS = 120_000;
const LAST_READ_DEADLINE_MS = 30_000;
const NETWORK_PORT = 4000;
/** How the sender names that verdict. */
const CLOSES_EARLY = /the server has closed \d+ connections in a row/;

/** What a soak needs. */
export interface SoakOptions {
  readonly seed: number;
  readonly durationMs: number;
  /** Without one, everything runs over loopback, and connections are reset instead of cut. */
  readonly network: TestNetwork | undefined;
  /** An empty directory for the queue and the record. */
  readonly directory: string;
  /** Ends it early, with the figures so far. */
  readonly interrupted: AbortSignal;
  /** Told what happens, in words. */
  readonly log: (words: string) => void;
}

/** Runs one soak; what goes wrong stands in the figures. */
export async function soak(options: SoakOptions): Promise<Figures> {
  await using run = new Soak(options);
  return await run.run();
}

class Soak implements AsyncDisposable {
  readonly #options: SoakOptions;
  readonly #queue: string;
  readonly #tally = new Tally(PACKET_BYTES);
  readonly #samples: Sample[] = [];
  readonly #faults: Map<string, number> = new Map();
  readonly #givenUp: Map<string, number> = new Map();
  /** For each producer that has ended how many of its packets were stored. */
  readonly #stored: Map<string, number> = new Map();
  readonly #broken = new AbortController();
  readonly #stop: AbortSignal;
  readonly #startedMs = performance.now();

  #server: { recorder: RecorderProcess; tail: RecordTail; pid: number } | undefined;
  #servers = 0;
  #port = NETWORK_PORT;
  #sender: ProducerProcess | undefined;
  #senders = 0;
  #enqueuer: ProducerProcess | undefined;
  #connections = 0;
  #duplicatesBound = 0;
  #trafficMs = 0;

  constructor(options: SoakOptions) {
    this.#options = options;
    this.#queue = `${options.directory}/outbox.db`;
    this.#stop = AbortSignal.any([options.interrupted, this.#broken.signal]);
  }

  async run(): Promise<Figures> {
    let wrong: string | undefined;
    let leftOnDisk: { packets: number; deadPackets: number } | undefined;
    const stopWatching = new AbortController();
    const watching = Promise.all([
      this.#repeat(TAIL_MS, stopWatching.signal, () => this.#server?.tail.update()),
      this.#repeat(this.#sampleMs, stopWatching.signal, () => this.#sample()),
    ]);
    watching.catch((error) => this.#broken.abort(error));
    try {
      await this.#start();
      await this.#breakAndMend();
      await this.#finish();
      leftOnDisk = await this.#readQueue();
    } catch (error) {
      const cause = this.#broken.signal.aborted ? this.#broken.signal.reason : error;
      wrong = cause instanceof Error ? cause.message : String(cause);
    }
    stopWatching.abort();
    await watching.catch(() => {});
    await this.#stopAll();
    // Ctrl-C reaches this process and its children at the same time: who comes first is chance.
    const interrupted = this.#options.interrupted.aborted;
    return {
      seed: this.#options.seed,
      seconds: this.#trafficMs / 1000,
      interrupted,
      wrong: interrupted ? undefined : wrong,
      faults: this.#faults,
      givenUp: this.#givenUp,
      connections: this.#connections,
      senders: this.#senders,
      servers: this.#servers,
      stored: [...this.#stored.values()].reduce((sum, stored) => sum + stored, 0),
      missing: this.#tally.missing(this.#stored),
      skipped: this.#tally.skipped(this.#stored),
      leftOnDisk,
      read: this.#tally.read,
      duplicates: this.#tally.duplicates,
      duplicatesBound: this.#duplicatesBound,
      outOfOrder: this.#tally.outOfOrder,
      damaged: this.#tally.damaged,
      samples: this.#samples,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stopAll();
  }

  // Its parts

  async #start(): Promise<void> {
    if (this.#options.network === undefined) this.#port = freePort();
    await this.#startServer();
    await this.#startSender();
    this.#enqueuer = this.#startProducer("e", ENQUEUER_PER_SECOND);
    await this.#enqueuer.onDisk;
  }

  async #breakAndMend(): Promise<void> {
    const { seed, durationMs, network } = this.#options;
    const startedMs = performance.now();
    const until = (atMs: number) => this.#wait(Math.max(0, startedMs + atMs - performance.now()));
    try {
      for (const fault of planFaults(seed, durationMs, network !== undefined)) {
        await until(fault.atMs);
        await this.#inject(fault);
        this.#faults.set(fault.kind, (this.#faults.get(fault.kind) ?? 0) + 1);
        await this.#wait(REST_MS);
      }
      await until(durationMs);
    } finally {
      this.#trafficMs = performance.now() - startedMs;
    }
  }

  /** Breaks one thing, waits, and mends it. */
  async #inject({ kind, lengthMs, direction }: Fault): Promise<void> {
    const seconds = `${(lengthMs / 1000).toFixed(1)} s`;
    switch (kind) {
      case "server-killed":
        this.#log(`server killed, back after ${seconds}`);
        await this.#killServer();
        await this.#wait(lengthMs);
        return await this.#startServer();
      case "server-killed-unread": {
        const unreadMs = Math.min(UNREAD_MS, lengthMs);
        this.#log(`server stopped, killed ${unreadMs.toFixed(0)} ms later, back after ${seconds}`);
        await this.#server?.recorder.signal("SIGSTOP");
        await this.#wait(unreadMs);
        await this.#killServer();
        await this.#wait(lengthMs - unreadMs);
        return await this.#startServer();
      }
      case "server-stopped":
        this.#log(`server stopped, continued after ${seconds}`);
        await this.#server?.recorder.signal("SIGSTOP");
        await this.#wait(lengthMs);
        return await this.#server?.recorder.signal("SIGCONT");
      case "server-closes":
        this.#log("server closes its connections");
        return await this.#server?.recorder.command("close");
      case "connection-reset":
        this.#log("server resets its connections");
        return await this.#server?.recorder.command("reset");
      case "path-cut": {
        this.#log(`path cut (${direction}), healed after ${seconds}`);
        const heal: Heal | undefined = await this.#options.network?.silentDrop({ direction });
        await this.#wait(lengthMs);
        return await heal?.();
      }
      case "sender-killed":
        this.#log(`sender killed, back after ${seconds}`);
        await this.#killSender();
        await this.#wait(lengthMs);
        return await this.#startSender();
      default:
        throw new TypeError(`Unknown fault ${kind satisfies never}`);
    }
  }

  /** No more packets; what there is has to arrive. */
  async #finish(): Promise<void> {
    const [sender, enqueuer] = [this.#sender, this.#enqueuer];
    if (sender === undefined || enqueuer === undefined) throw new Error("nothing was started");
    this.#enqueuer = undefined;
    await this.#endInOrder(enqueuer);
    this.#sender = undefined;
    await this.#endInOrder(sender);
    // The kernel has everything, the server will have read it soon.
    const deadline = performance.now() + LAST_READ_DEADLINE_MS;
    const missing = () => {
      this.#server?.tail.update();
      const { lost, diedUnread } = this.#tally.missing(this.#stored);
      return lost + diedUnread;
    };
    while (missing() > 0 && performance.now() < deadline) await this.#wait(TAIL_MS);
  }

  async #endInOrder(process: ProducerProcess): Promise<void> {
    await process.end();
    const late = AbortSignal.any([this.#stop, AbortSignal.timeout(FINISH_DEADLINE_MS)]);
    const status = await Promise.race([process.ended, aborted(late)]);
    await process.kill();
    this.#stored.set(process.producer, process.stored);
    if (status?.success) return;
    this.#stop.throwIfAborted();
    throw new Error(
      `${process.producer} ` +
        (status === undefined
          ? `has not delivered everything in ${FINISH_DEADLINE_MS / 1000} s`
          : `ended with ${status.signal ?? status.code}`) +
        `; its last words: ${process.lastWords}`,
    );
  }

  async #readQueue(): Promise<{ packets: number; deadPackets: number }> {
    await using queue = await OutboundQueue.open(this.#queue);
    const { packets, deadPackets } = queue.stats();
    return { packets, deadPackets };
  }

  async #stopAll(): Promise<void> {
    const enqueuer = this.#enqueuer;
    this.#enqueuer = undefined;
    await this.#bury(enqueuer);
    await this.#killSender();
    await this.#killServer();
  }

  // Processes

  async #startServer(): Promise<void> {
    const { network, directory } = this.#options;
    const record = `${directory}/server-${++this.#servers}.record`;
    let pid = 0;
    const spawn: Spawn = (...command) => {
      const child = (network?.spawnerIn("server") ?? spawnHere)(...command);
      pid = child.pid;
      return child;
    };
    const recorder = await RecorderProcess.start({
      record,
      port: this.#port,
      spawn,
      ...(network === undefined ? {} : { address: network.serverAddress }),
    });
    this.#server = { recorder, pid, tail: new RecordTail(record, this.#tally) };
  }

  async #killServer(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const { recorder, pid, tail } = server;
    const unread = unreadBytes(pid, this.#port);
    const killedAtMs = nowMs();
    await recorder[Symbol.asyncDispose]();
    tail.update(true);
    tail[Symbol.dispose]();
    // What waits in its buffers came after it had last read.
    if (unread > 0 && killedAtMs - tail.lastReadAtMs >= HOLD_MS) this.#tally.serverDiedBehind();
  }

  async #startSender(): Promise<void> {
    const producer = `s${++this.#senders}`;
    const address = this.#options.network?.serverAddress ?? "127.0.0.1";
    const remote = `tcp://${address}:${this.#port}`;
    this.#sender = this.#startProducer(producer, SENDER_PER_SECOND, { remote, holdMs: HOLD_MS });
    // What a killed sender has left may have been sent already.
    const onDisk = await this.#sender.onDisk;
    if (this.#senders > 1) this.#duplicatesBound += onDisk;
  }

  async #killSender(): Promise<void> {
    const sender = this.#sender;
    this.#sender = undefined;
    await this.#bury(sender);
  }

  async #bury(process: ProducerProcess | undefined): Promise<void> {
    await process?.kill();
    if (process !== undefined) this.#stored.set(process.producer, process.stored);
  }

  #startProducer(
    producer: string,
    perSecond: number,
    send?: { remote: string; holdMs: number },
  ): ProducerProcess {
    this.#tally.expect(producer);
    const child = new ProducerProcess({
      spawn: this.#options.network?.spawnerIn("sender") ?? spawnHere,
      producer,
      perSecond,
      packetBytes: PACKET_BYTES,
      queue: this.#queue,
      ...(send === undefined ? {} : { send }),
      onLog: (event) => this.#takeLog(event),
    });
    void child.ended.then(({ signal, code }) => {
      // Whoever wanted its end has put it out of its place before.
      if (child !== this.#sender && child !== this.#enqueuer) return;
      const words = `${producer} ended by itself (${signal ?? code}): ${child.lastWords}`;
      this.#broken.abort(new Error(words));
    });
    return child;
  }

  #takeLog({ message, named, toSendAgain }: LogEvent): void {
    this.#duplicatesBound += toSendAgain;
    if (message.startsWith("connected to")) this.#connections++;
    if (!message.startsWith(GIVEN_UP)) return;
    const name = named ?? (CLOSES_EARLY.test(message) ? "closes-early" : "other");
    this.#givenUp.set(name, (this.#givenUp.get(name) ?? 0) + 1);
  }

  // Time

  get #sampleMs(): number {
    return Math.min(SAMPLE_MS, this.#options.durationMs / MIN_SAMPLES);
  }

  async #sample(): Promise<void> {
    const [sender, enqueuer] = [this.#sender, this.#enqueuer];
    if (sender === undefined || enqueuer === undefined) return;
    const [usage, liveBytes, others, enqueuerLiveBytes] = await Promise.all([
      usageOf(sender.pid),
      sender.liveBytes(),
      usageOf(enqueuer.pid),
      enqueuer.liveBytes(),
    ]);
    // One of them was killed meanwhile.
    if (usage === undefined || liveBytes === undefined) return;
    if (others === undefined || enqueuerLiveBytes === undefined) return;
    this.#samples.push({
      ...usage,
      liveBytes,
      walBytes: await sizeOf(`${this.#queue}-wal`),
      enqueuerRssBytes: others.rssBytes,
      enqueuerLiveBytes,
    });
  }

  async #repeat(
    everyMs: number,
    stop: AbortSignal,
    action: () => void | Promise<void>,
  ): Promise<void> {
    while (!stop.aborted) {
      await delay(everyMs, undefined, { signal: stop }).catch(() => {});
      await action();
    }
  }

  async #wait(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#stop });
  }

  #log(words: string): void {
    const seconds = (performance.now() - this.#startedMs) / 1000;
    this.#options.log(`${seconds.toFixed(1).padStart(7)} s  ${words}`);
  }
}

/** Resolves with nothing once the signal is aborted. */
function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
}

/**
 * A port below those that the kernel gives to whoever does not ask for one: the server is away
 * for seconds, and nobody else may take its place.
 */
function freePort(): number {
  for (let tries = 0; tries < 100; tries++) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
  throw new Error("no free port was found between 20000 and 32000");
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await Deno.stat(path)).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}
