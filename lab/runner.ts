/**
 * Carries one scenario out: builds the network, runs the real `send` command
 * against a recording server, takes the steps, and gathers the evidence.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { addressOf, openAddress } from "./opened_queue.ts";
import type { CommandEnd } from "./command_process.ts";
import { BOX_PORT, MiddleBox, missingBox, viaOf } from "./middle_box.ts";
import { type Heal, TestNetwork } from "./network.ts";
import { type Figures, figuresOf } from "./outcome.ts";
import { nowMs, packetOf } from "./packets.ts";
import { PRODUCER, Producer } from "./producer.ts";
import { readRecord } from "./record.ts";
import { RecorderProcess } from "./recorder_process.ts";
import type { Fault, Scenario, Step, Traffic } from "./scenario.ts";
import type { LogEvent } from "./sender_log.ts";
import { SenderProcess } from "./sender_process.ts";
import { isQuiet } from "./sockets.ts";
import { missingTls } from "./tls.ts";

const SERVER_PORT = 4000;
const CERTIFICATES = new URL("../tests/tls/certificates/", import.meta.url).pathname;
const ENQUEUER = new URL("./enqueuer.ts", import.meta.url).pathname;
// Deadlines are generous, for they only end a run that fails.
/** Time for what is left when the steps are done. */
const FINISH_DEADLINE_MS = 300_000;
/** What the sender's kernel has delivered is read by the server within this. */
const LAST_READ_DEADLINE_MS = 60_000;
/** The sender starts, connects, and its first packet is read, within this. */
const SERVED_DEADLINE_MS = 120_000;
/** The expected verdict is named within this, where no step sets a limit. */
const NOTICED_DEADLINE_SECONDS = 120;
const DEFAULT_TRAFFIC: Traffic = { perSecond: 200, bytes: 100 };
const LIBFAKETIME_FOLDER = "/usr/lib";

/** Why a scenario cannot run here, if it cannot. */
export function missingFor(scenario: Scenario): string | undefined {
  if (scenario.needs === "libfaketime" && findLibfaketime() === undefined) {
    return "libfaketime is not installed";
  }
  if (scenario.tls) return missingTls();
  return scenario.box && missingBox(scenario.box);
}

/**
 * Runs one scenario.
 *
 * @param scenario See `scenarios.ts`.
 * @param directory An empty directory for the queue and the records.
 * @throws {Error} The laboratory itself failed.
 */
export async function runScenario(scenario: Scenario, directory: string): Promise<Figures> {
  await using network = await TestNetwork.create({ topology: scenario.topology ?? "routed" });
  await using run = new ScenarioRun(scenario, network, directory);
  return await run.run();
}

class ScenarioRun implements AsyncDisposable {
  readonly #scenario: Scenario;
  readonly #network: TestNetwork;
  readonly #directory: string;
  readonly #queue: string;
  readonly #clockFile: string;
  readonly #traffic: Traffic;
  readonly #producer: Producer;

  #recorder: RecorderProcess | undefined;
  #box: MiddleBox | undefined;
  #standby: RecorderProcess | undefined;
  readonly #records: string[] = [];
  #sender: SenderProcess | undefined;
  readonly #events: LogEvent[] = [];
  readonly #cuts: Heal[] = [];
  readonly #enqueuers: { letter: string; packets: number; done: Promise<Deno.CommandStatus> }[] =
    [];

  #trafficStarted = false;
  #isServed = false;
  #fault: { beginsMs: number; doneMs: number } | undefined;
  #heal: { doneMs: number; given: number } | undefined;
  #onDiskAtDeaths = 0;
  #secondSender: CommandEnd | undefined;

  constructor(scenario: Scenario, network: TestNetwork, directory: string) {
    this.#scenario = scenario;
    this.#network = network;
    this.#directory = directory;
    const folder = scenario.diskBytes === undefined ? directory : `${directory}/disk`;
    this.#queue = addressOf(`${folder}/outbox.db`, scenario.place ?? "file");
    this.#clockFile = `${directory}/clock`;
    this.#traffic = scenario.traffic ?? DEFAULT_TRAFFIC;
    this.#producer = new Producer(this.#traffic);
  }

  async run(): Promise<Figures> {
    const startedMs = nowMs();
    const { conditions = [], steps } = this.#scenario;
    for (const fault of conditions) await this.#cut(fault);
    await this.#startServer();
    await this.#startStandby();
    await this.#startBox();
    await this.#startSender(0);
    if (!steps.some((step) => step.do === "start-traffic") || pausesFirst(steps)) {
      this.#startTraffic();
    }
    for (const step of steps) await this.#take(step);
    await this.#waitForVerdict();
    const end = await this.#finish();
    return figuresOf(this.#scenario, {
      sent: this.#sent(),
      record: readRecord(...this.#records),
      events: this.#events,
      ends: [end],
      onDiskAtDeaths: this.#onDiskAtDeaths,
      fault: this.#fault,
      heal: this.#heal,
      secondSender: this.#secondSender,
      seconds: (nowMs() - startedMs) / 1000,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#producer.pause();
    this.#producer.detach();
    await this.#sender?.kill();
    await this.#box?.[Symbol.asyncDispose]();
    await this.#standby?.[Symbol.asyncDispose]();
    await this.#recorder?.[Symbol.asyncDispose]();
    await this.#producer.abandon();
  }

  /** Takes a step and notes when the first fault and the last heal were done. */
  async #take(step: Step): Promise<void> {
    if (!isWaiting(step)) await this.#waitUntilServed();
    if (heals(step)) await this.#waitForVerdict();
    const beginsMs = nowMs();
    await this.#carryOut(step);
    const doneMs = nowMs();
    if (heals(step) && this.#standby === undefined) {
      this.#heal = { doneMs, given: this.#producer.given };
    } else if (!isHarmless(step)) {
      this.#fault ??= { beginsMs, doneMs };
      if (this.#standby !== undefined) this.#heal ??= { doneMs, given: this.#producer.given };
    }
  }

  async #carryOut(step: Step): Promise<void> {
    switch (step.do) {
      case "wait":
        return await delay(step.seconds * 1000);
      case "wait-until-noticed":
        return await this.#waitUntilNoticed(step.deadlineSeconds);
      case "start-traffic":
        return this.#startTraffic();
      case "pause-traffic":
        return this.#producer.pause();
      case "cut":
        return await this.#cut(step.fault);
      case "heal":
        for (const heal of this.#cuts.splice(0).reverse()) await heal();
        return;
      case "server":
        return await this.#recorder?.command(step.command);
      case "kill-server":
        return await this.#recorder?.signal("SIGKILL");
      case "start-server":
        return await this.#startServer();
      case "signal-server":
        return await this.#recorder?.signal(step.signal);
      case "kill-box":
        return await this.#box?.[Symbol.asyncDispose]();
      case "start-box":
        return await this.#startBox();
      case "reboot-server":
        return await this.#network.rebootServer();
      case "kill-sender":
        return await this.#bury(() => this.#sender?.kill());
      case "start-sender":
        return await this.#startSender(await this.#storedPackets());
      case "signal-sender":
        return this.#sender?.signal(step.signal);
      case "power-cut-sender":
        return await this.#bury(() => this.#network.powerCutSender());
      case "kill-sender-often":
        for (let i = 0; i < step.times; i++) {
          await delay(Math.random() * step.withinSeconds * 1000);
          await this.#bury(() => this.#sender?.kill());
          await this.#startSender(await this.#storedPackets());
        }
        return;
      case "start-second-sender":
        this.#secondSender = await this.#newSender([]).ended;
        return;
      case "start-enqueuers":
        return this.#startEnqueuers(step);
      case "move-clock":
        return await this.#moveClock(step.seconds);
      case "fill-disk":
        return await this.#fillDisk();
      case "free-disk":
        return await Deno.remove(this.#filler);
      default:
        throw new TypeError(`Unknown step ${JSON.stringify(step satisfies never)}`);
    }
  }

  async #cut(fault: Fault): Promise<void> {
    this.#cuts.push(await this.#inject(fault));
  }

  #inject(fault: Fault): Promise<Heal> {
    const network = this.#network;
    switch (fault.kind) {
      case "server-cable-out":
        return network.cutServerCable();
      case "server-power-off":
        return network.powerOffServer();
      case "own-link-down":
        return network.ownLinkDown();
      case "own-carrier-lost":
        return network.ownCarrierLost();
      case "route-deleted":
        return network.deleteRoute();
      case "route-unreachable":
        return network.unreachableRoute();
      case "address-deleted":
        return network.deleteAddress();
      case "silent-drop":
        return network.silentDrop({ direction: fault.direction });
      case "acks-dropped":
        return network.ackDrop();
      case "rejected":
        return network.reject(fault.by);
      case "syn-blackhole":
        return network.blackholeSyn();
      case "loss":
        return network.loss(fault.percent);
      case "slow-link":
        return network.slowLink(fault);
      case "delay":
        return network.delay(fault);
      default:
        throw new TypeError(`Unknown fault ${JSON.stringify(fault satisfies never)}`);
    }
  }

  async #startServer(): Promise<void> {
    await this.#recorder?.[Symbol.asyncDispose]();
    const record = `${this.#directory}/server-${this.#records.length + 1}.record`;
    this.#records.push(record);
    this.#recorder = await RecorderProcess.start({
      record,
      address: this.#network.serverAddress,
      port: SERVER_PORT,
      ...(this.#scenario.unixSocket === undefined ? {} : { unix: this.#unixSocket }),
      commands: this.#scenario.serverCommands ?? [],
      ...(this.#scenario.tls
        ? { tls: { cert: `${CERTIFICATES}server.pem`, key: `${CERTIFICATES}server.key` } }
        : {}),
      spawn: this.#network.spawnerIn("server"),
    });
  }

  async #startStandby(): Promise<void> {
    const { routerAddress } = this.#network;
    if (this.#scenario.standby === undefined || routerAddress === undefined) return;
    const record = `${this.#directory}/standby.record`;
    this.#records.push(record);
    this.#standby = await RecorderProcess.start({
      record,
      address: routerAddress,
      port: SERVER_PORT,
      spawn: this.#network.spawnerIn("router"),
    });
  }

  async #startBox(): Promise<void> {
    const { box } = this.#scenario;
    if (box === undefined) return;
    this.#box = await MiddleBox.start(box, {
      spawn: this.#network.spawnerIn("sender"),
      directory: this.#directory,
      server: `${this.#network.serverAddress}:${SERVER_PORT}`,
    });
  }

  /** @param stored Packets that the queue has had so far. */
  async #startSender(stored: number): Promise<void> {
    this.#sender = this.#newSender(await this.#wrapper(), (event) => this.#events.push(event));
    this.#producer.attach(this.#sender, stored);
  }

  #newSender(wrapper: readonly string[], onEvent?: (event: LogEvent) => void): SenderProcess {
    const { box } = this.#scenario;
    const via = box && viaOf(box);
    return new SenderProcess({
      spawn: this.#network.spawnerIn("sender"),
      wrapper,
      queue: this.#queue,
      server: box === undefined || via !== undefined ? this.#servers : `127.0.0.1:${BOX_PORT}`,
      ...(via === undefined ? {} : { via }),
      flags: this.#scenario.flags ?? [],
      ...(this.#scenario.tls ? { tlsCa: `${CERTIFICATES}authority.pem` } : {}),
      ...(onEvent === undefined ? {} : { onEvent }),
    });
  }

  get #unixSocket(): string {
    return `${this.#directory}/s.sock`;
  }

  get #servers(): string {
    if (this.#scenario.unixSocket) return `unix:${this.#unixSocket}`;
    const standby = this.#standby === undefined ? [] : [this.#network.routerAddress];
    return [this.#network.serverAddress, ...standby].map((host) => `${host}:${SERVER_PORT}`).join(
      ",",
    );
  }

  /** A disk or a clock of the sender's own: nothing else on the machine sees either. */
  async #wrapper(): Promise<string[]> {
    const { diskBytes, needs } = this.#scenario;
    if (diskBytes !== undefined) {
      const disk = `${this.#directory}/disk`;
      await Deno.mkdir(disk);
      // "ip netns exec" has given the process mounts of its own, which end with it.
      const mount = `mount -t tmpfs -o size=${diskBytes} lab ${disk} && exec "$@"`;
      return ["sh", "-c", mount, "sh"];
    }
    if (needs === "libfaketime") {
      await this.#moveClock(0);
      return [
        "env",
        `LD_PRELOAD=${findLibfaketime()}`,
        `FAKETIME_TIMESTAMP_FILE=${this.#clockFile}`,
        "FAKETIME_CACHE_DURATION=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
      ];
    }
    return [];
  }

  async #moveClock(seconds: number): Promise<void> {
    // Renamed into place: a reader must not find half of it.
    await Deno.writeTextFile(`${this.#clockFile}.new`, `${seconds < 0 ? "" : "+"}${seconds}s\n`);
    await Deno.rename(`${this.#clockFile}.new`, this.#clockFile);
  }

  /** Inside the sender's own mounts. */
  get #filler(): string {
    return `/proc/${this.#sender?.pid}/root${this.#directory}/disk/filler`;
  }

  async #fillDisk(): Promise<void> {
    using file = await Deno.open(this.#filler, { createNew: true, write: true });
    const block = new Uint8Array(4096);
    try {
      for (;;) await file.write(block);
    } catch (error) {
      // ENOSPC, which Deno has no class for.
      if (!(error instanceof Error && /os error 28/.test(error.message))) throw error;
    }
  }

  /** The sender dies; whatever lies on disk then may have been sent and is not confirmed. */
  async #bury(kill: () => Promise<void> | undefined): Promise<void> {
    this.#producer.detach();
    await kill();
    await this.#sender?.kill();
    await using queue = await openAddress(this.#queue);
    this.#onDiskAtDeaths += queue.stats().packets;
  }

  async #storedPackets(): Promise<number> {
    await using queue = await openAddress(this.#queue);
    return queue.lastId;
  }

  #startEnqueuers(step: Extract<Step, { do: "start-enqueuers" }>): void {
    const { processes, packets, perSecond } = step;
    for (const letter of "abcdefgh".slice(0, processes)) {
      const child = this.#network.spawnIn("sender", Deno.execPath(), [
        ...["run", "--quiet", "--allow-all", ENQUEUER, this.#queue],
        ...[letter, packets, perSecond, this.#traffic.bytes].map(String),
      ]);
      this.#enqueuers.push({ letter, packets, done: child.status });
    }
  }

  #startTraffic(): void {
    this.#trafficStarted = true;
    this.#producer.resume();
  }

  /** Once: until the server has read of the traffic, and everything logged before is read here. */
  async #waitUntilServed(): Promise<void> {
    if (this.#isServed) return;
    this.#isServed = true;
    // A fault that comes before any traffic may be why nothing is served.
    if (!this.#trafficStarted) return;
    await this.#until(SERVED_DEADLINE_MS, () => {
      return (this.#recorder?.reader.update().packetCount ?? 0) > 0 &&
        this.#events.some(({ message }) => message.startsWith("connected to"));
    });
  }

  /** What goes wrong is not undone before it has shown, where it is expected to. */
  async #waitForVerdict(): Promise<void> {
    if (this.#fault === undefined || this.#scenario.expect.verdict === undefined) return;
    await this.#waitUntilNoticed(NOTICED_DEADLINE_SECONDS);
  }

  async #waitUntilNoticed(deadlineSeconds: number): Promise<void> {
    const beginsMs = this.#fault?.beginsMs ?? 0;
    await this.#until(deadlineSeconds * 1000, () => {
      return this.#events.some(({ atMs, named }) => named !== undefined && atMs >= beginsMs);
    });
  }

  /** Everything is healed; the producer ends its input, and the command delivers the rest. */
  async #finish(): Promise<CommandEnd> {
    await this.#network.heal();
    await this.#producer.finish();
    for (const { letter, done } of this.#enqueuers) {
      if (!(await done).success) throw new Error(`enqueuer ${letter} failed`);
    }
    const sender = this.#sender;
    if (sender === undefined) throw new Error("no sender was left at the end");
    await sender.endInput();
    const { promise: tooLong, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, FINISH_DEADLINE_MS);
    await Promise.race([sender.ended, tooLong]);
    clearTimeout(timer);
    // Asked to stop, it says how many packets it keeps.
    sender.signal("SIGTERM");
    const end = await sender.ended;
    const expected = [...this.#sent().values()].flat().length;
    await this.#until(LAST_READ_DEADLINE_MS, async () => {
      const record = readRecord(...this.#records);
      const read = new Set(record.flatMap(({ packets }) =>
        packets.map(({ bytes }) => {
          return String.fromCharCode(...bytes.subarray(0, 12));
        })
      ));
      return read.size >= expected || await this.#isQuiet();
    });
    await this.#recorder?.[Symbol.asyncDispose]();
    await this.#standby?.[Symbol.asyncDispose]();
    return end;
  }

  /** Nothing is left on the way: what was not read by now never will be. */
  async #isQuiet(): Promise<boolean> {
    // Of a Unix socket no table tells what is unread: then the deadline decides.
    if (this.#scenario.unixSocket) return false;
    // First where bytes come from: what is quiet there has arrived.
    for (const host of ["sender", "server"] as const) {
      if (!await isQuiet(this.#network.spawnerIn(host))) return false;
    }
    return true;
  }

  #sent(): Map<string, string[]> {
    const sent = new Map([[PRODUCER, this.#producer.packets()]]);
    for (const { letter, packets } of this.#enqueuers) {
      const { bytes } = this.#traffic;
      sent.set(letter, Array.from({ length: packets }, (_, n) => packetOf(letter, n, bytes)));
    }
    return sent;
  }

  /** Polls, for at most `deadlineMs`; what did not come about shows in the figures. */
  async #until(deadlineMs: number, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + deadlineMs;
    while (!await condition() && performance.now() < deadline) await delay(50);
  }
}

function heals(step: Step): boolean {
  switch (step.do) {
    case "heal":
    case "start-server":
    case "start-sender":
    case "start-box":
      return true;
    case "signal-server":
    case "signal-sender":
      return step.signal === "SIGCONT";
    case "server":
      return step.command === "resume";
    default:
      return false;
  }
}

function isHarmless(step: Step): boolean {
  if (step.do === "server") return /^(stop-reading|read-rate|await-unread)/.test(step.command);
  return isWaiting(step) || step.do === "pause-traffic" || step.do === "start-enqueuers";
}

function isWaiting(step: Step): boolean {
  return step.do === "wait" || step.do === "wait-until-noticed" || step.do === "start-traffic";
}

/** Whether "start-traffic" only ends a pause. */
function pausesFirst(steps: readonly Step[]): boolean {
  const first = steps.find(({ do: kind }) => kind === "start-traffic" || kind === "pause-traffic");
  return first?.do === "pause-traffic";
}

function findLibfaketime(): string | undefined {
  for (const { name } of readFolder(LIBFAKETIME_FOLDER)) {
    const path = `${LIBFAKETIME_FOLDER}/${name}/faketime/libfaketimeMT.so.1`;
    try {
      if (Deno.statSync(path).isFile) return path;
    } catch {
      // Not there.
    }
  }
  return undefined;
}

function readFolder(path: string): Deno.DirEntry[] {
  try {
    return [...Deno.readDirSync(path)];
  } catch {
    return [];
  }
}
