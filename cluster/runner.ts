/**
 * Carries one scenario out: starts a cluster, the real `send` command on two machines, a
 * recording server and producers, takes the steps, and gathers the evidence.
 *
 * @module
 */

import { setTimeout as delay } from "node:timers/promises";
import { nowMs } from "../lab/packets.ts";
import { readRecord } from "../lab/record.ts";
import { RecorderProcess } from "../lab/recorder_process.ts";
import { SenderProcess } from "../lab/sender_process.ts";
import { DatabaseCluster, queueUrl } from "./database_cluster.ts";
import { DATABASE_PORT, type DatabaseMachine, freeze } from "./database_machine.ts";
import { Edge } from "./edge.ts";
import {
  addressOf,
  ClusterNetwork,
  type DatabaseHost,
  DATABASES,
  EDGES,
  hostOf,
  PRODUCERS,
  type SenderHost,
  SENDERS,
} from "./network.ts";
import { type Evidence, type Figures, figuresOf, type Span } from "./outcome.ts";
import { type Outcome, Producer } from "./producer.ts";
import type { Cut, Planted, Role, Scenario, Step } from "./scenario.ts";
import { Service } from "./service.ts";
import { until, Watcher } from "./watcher.ts";

const SERVER_PORT = 4000;
const PER_SECOND = 50;
const PRODUCER_LETTERS = "abc";
const EDGE_LETTERS = "def";
/** The first producer is patient; the others have their packets refused after the default. */
const BUSY_TIMEOUTS_MS = [600_000, 10_000, 10_000] as const;
// Deadlines are generous, for they only end a run that fails.
const SERVED_DEADLINE_MS = 120_000;
const DELIVERED_DEADLINE_MS = 120_000;
const PRIMARY_DEADLINE_MS = 120_000;
const FINISH_DEADLINE_MS = 300_000;
const CANCEL_DEADLINE_MS = 60_000;
/** Answers that are on their way come within this. */
const ANSWERS_MS = 500;

/** Where a run lies, and what it starts from. */
export interface RunOptions {
  /** An empty directory of its own. */
  readonly directory: string;
  /** What {@linkcode DatabaseCluster.makeDisks} has made. */
  readonly disks: string;
  /** What is wrong on purpose. */
  readonly fault?: Planted["fault"];
}

/**
 * Runs one scenario.
 *
 * @throws {Error} The ring itself failed.
 */
export async function runScenario(scenario: Scenario, options: RunOptions): Promise<Figures> {
  await using network = await ClusterNetwork.create();
  await using watcher = new Watcher(network);
  const { directory, disks } = options;
  const cluster = await DatabaseCluster.start(network, watcher, directory, disks);
  await using run = new ScenarioRun(scenario, options, network, watcher, cluster);
  return await run.run();
}

class ScenarioRun implements AsyncDisposable {
  readonly #scenario: Scenario;
  readonly #options: RunOptions;
  readonly #network: ClusterNetwork;
  readonly #watcher: Watcher;
  readonly #cluster: DatabaseCluster;
  readonly #senders: ReadonlyMap<SenderHost, Service>;
  readonly #producers: Producer[] = [];
  readonly #edges: Edge[] = [];
  readonly #log: string;
  readonly #heals: (() => Promise<void>)[] = [];
  /** Machines whose disk is gone. */
  readonly #destroyed = new Set<DatabaseHost>();
  readonly #stopped = new Set<DatabaseMachine>();
  #stoppedSender: Service | undefined;
  /** Where Patroni and PostgreSQL were killed. */
  readonly #withoutDatabase = new Set<DatabaseHost>();
  readonly #noStandby: Span[] = [];
  readonly #troubles: string[] = [];
  #noStandbySinceMs: number | undefined;
  #recorder: RecorderProcess | undefined;
  #faultMs: number | undefined;
  #lastFaultMs = 0;

  constructor(
    scenario: Scenario,
    options: RunOptions,
    network: ClusterNetwork,
    watcher: Watcher,
    cluster: DatabaseCluster,
  ) {
    this.#scenario = scenario;
    this.#options = options;
    this.#network = network;
    this.#watcher = watcher;
    this.#cluster = cluster;
    this.#log = `${options.directory}/senders.log`;
    this.#senders = new Map(SENDERS.map((host) => [host, this.#newSender(host)]));
  }

  async run(): Promise<Figures> {
    const startedMs = nowMs();
    await this.#plant();
    await this.#startServer();
    for (const sender of this.#senders.values()) sender.start();
    await this.#startProducers();
    await this.#startEdges();
    await this.#waitUntilServed();
    for (const step of this.#scenario.steps) await this.#take(step);
    const untilMs = nowMs();
    await this.#finish();
    const evidence = await this.#evidence({ fromMs: this.#faultMs ?? untilMs, toMs: untilMs });
    return figuresOf(this.#scenario, { ...evidence, seconds: (nowMs() - startedMs) / 1000 });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const sender of this.#senders.values()) await sender[Symbol.asyncDispose]();
    for (const edge of this.#edges) await edge[Symbol.asyncDispose]();
    for (const producer of this.#producers) await producer[Symbol.asyncDispose]();
    await this.#recorder?.[Symbol.asyncDispose]();
  }

  async #plant(): Promise<void> {
    const { fault } = this.#options;
    if (fault?.isNotStrict) await this.#watcher.configure({ synchronous_mode_strict: false });
    for (const { function: name, text, by } of fault?.replaces ?? []) {
      // A text that is not there any more plants nothing.
      await this.#watcher.sql(`
        DO $plant$
        DECLARE before text := pg_get_functiondef(${quoted(name)}::regproc);
        BEGIN
          IF position(${quoted(text)} IN before) = 0 THEN
            RAISE EXCEPTION '% does not have the text that is to be replaced', ${quoted(name)};
          END IF;
          EXECUTE replace(before, ${quoted(text)}, ${quoted(by)});
        END $plant$`);
    }
  }

  async #startServer(): Promise<void> {
    this.#recorder = await RecorderProcess.start({
      record: this.#record,
      address: addressOf("server"),
      port: SERVER_PORT,
      spawn: this.#network.spawnerIn("server"),
    });
  }

  get #record(): string {
    return `${this.#options.directory}/server.record`;
  }

  #newSender(host: SenderHost): Service {
    return new Service({
      host,
      run: (onEvent) =>
        new SenderProcess({
          spawn: this.#network.spawnerIn(host),
          queue: queueUrl("sender"),
          net: DATABASES.map((database) => `${addressOf(database)}:${DATABASE_PORT}`),
          server: `${addressOf("server")}:${SERVER_PORT}`,
          flags: ["--input=none"],
          onEvent,
        }),
      ready: /^(standing by|connected to)/,
      log: this.#log,
    });
  }

  async #startProducers(): Promise<void> {
    for (const [index, host] of PRODUCERS.entries()) {
      this.#producers.push(
        await Producer.start(this.#network, {
          host,
          queue: queueUrl("producer"),
          letter: PRODUCER_LETTERS[index] ?? "",
          perSecond: PER_SECOND,
          record: `${this.#options.directory}/${host}.record`,
          busyTimeoutMs: BUSY_TIMEOUTS_MS[index] ?? BUSY_TIMEOUTS_MS[0],
        }),
      );
    }
  }

  async #startEdges(): Promise<void> {
    for (const [index, host] of EDGES.slice(0, this.#scenario.edges ?? 0).entries()) {
      this.#edges.push(
        await Edge.start(this.#network, {
          host,
          letter: EDGE_LETTERS[index] ?? "",
          perSecond: PER_SECOND,
          directory: this.#options.directory,
        }),
      );
    }
  }

  async #waitUntilReady(): Promise<void> {
    const areReady = () => [...this.#senders.values()].every(({ isReady }) => isReady);
    if (!await until(SERVED_DEADLINE_MS, areReady)) {
      this.#troubles.push("a sender that was started neither sends nor stands by");
    }
  }

  /** One sender sends, the other one stands by, and every producer's packets arrive. */
  async #waitUntilServed(): Promise<void> {
    await this.#waitUntilReady();
    const isServed = () => {
      return this.#producers.every((producer) => producer.outcomes().length > 20) &&
        (this.#recorder?.reader.update().packetCount ?? 0) > 100 &&
        this.#edges.every((edge) => this.#isDelivered(edge.outcomes()));
    };
    if (!await until(SERVED_DEADLINE_MS, isServed)) {
      throw new Error(`nothing was delivered before the first fault:\n${readIfThere(this.#log)}`);
    }
  }

  async #take(step: Step): Promise<void> {
    const beginsMs = nowMs();
    await this.#carryOut(step);
    if (isFault(step)) {
      this.#faultMs ??= beginsMs;
      this.#lastFaultMs = nowMs();
    }
  }

  async #carryOut(step: Step): Promise<void> {
    switch (step.do) {
      case "wait":
        return await delay(step.seconds * 1000);
      case "wait-until-delivered":
        return await this.#waitUntilDelivered();
      case "cut":
        this.#heals.push(await this.#cut(step.cut));
        return;
      case "heal":
        for (const heal of this.#heals.splice(0)) await heal();
        return;
      case "kill-sender":
        return await this.#sender(await this.#holder()).kill();
      case "start-senders":
        for (const sender of this.#senders.values()) sender.start();
        return await this.#waitUntilReady();
      case "stop-sender":
        this.#stoppedSender = this.#sender(await this.#holder());
        return this.#stoppedSender.signal("SIGSTOP");
      case "continue-sender":
        this.#stoppedSender?.signal("SIGCONT");
        this.#stoppedSender = undefined;
        return;
      case "kill-database":
        return await this.#killDatabases(step.which);
      case "start-databases":
        return await this.#startDatabases();
      case "kill-machine":
        for (const host of await this.#hosts(step.which)) {
          await this.#cluster.machine(host).powerOff();
        }
        return;
      case "destroy-machine":
        for (const host of await this.#hosts(step.which)) {
          const machine = this.#cluster.machine(host);
          this.#destroyed.add(host);
          await machine.powerOff();
          await Deno.remove(machine.image);
        }
        return;
      case "stop-machine": {
        const machines = (await this.#hosts(step.which)).map((host) => this.#cluster.machine(host));
        for (const machine of machines) this.#stopped.add(machine);
        return await freeze(machines);
      }
      case "continue-machines":
        for (const machine of this.#stopped) await machine.thaw();
        return this.#stopped.clear();
      case "power-cut":
        return await this.#cluster.cutPower();
      case "start-machines":
        return await this.#startMachines();
      case "wait-until-unanswered":
        return await this.#waitUntilUnanswered();
      case "cancel-waits":
        return await this.#cancelWaits(step.times);
      case "kill-forwarders":
        for (const edge of this.#edges) await this.#killForwarder(edge, step.times);
        return;
      case "wait-until-edges-unanswered":
        return await this.#waitUntilEdgesUnanswered();
      case "see-that-edges-hold":
        return await this.#seeThatEdgesHold(step.packets);
      default:
        throw new TypeError(`Unknown step ${JSON.stringify(step satisfies never)}`);
    }
  }

  async #cut(cut: Cut): Promise<() => Promise<void>> {
    const network = this.#network;
    switch (cut.kind) {
      case "sender":
        return await network.cutOff(await this.#holder());
      case "sender-from-databases":
        return await network.cut([await this.#holder()], DATABASES);
      case "primary":
        return await network.cutOff(await this.#primary());
      case "primary-from-standbys": {
        const primary = await this.#primary();
        return await network.cut([primary], DATABASES.filter((host) => host !== primary));
      }
      case "producers-from-databases":
        return await network.cut(PRODUCERS, DATABASES);
      case "answers-to-producers":
        return await network.drop([await this.#primary()], PRODUCERS);
      case "edges-from-databases":
        return await network.cut(EDGES, DATABASES);
      case "answers-to-edges":
        return await network.drop([await this.#primary()], EDGES);
      default:
        throw new TypeError(`Unknown cut ${JSON.stringify(cut satisfies never)}`);
    }
  }

  /** A failover may be under way at any moment, also one that no step has asked for. */
  #look(text: string): ReturnType<Watcher["look"]> {
    return this.#watcher.look(text, PRIMARY_DEADLINE_MS);
  }

  async #primary(): Promise<DatabaseHost> {
    const primary = await this.#watcher.primary();
    if (primary === undefined) throw new Error("there is no primary to do something to");
    return primary;
  }

  async #hosts(role: Role): Promise<readonly DatabaseHost[]> {
    const primary = await this.#primary();
    if (role === "primary") return [primary];
    const standbys = DATABASES.filter((host) => host !== primary && !this.#destroyed.has(host));
    if (role === "standbys") return standbys;
    const waitedFor = (await this.#watcher.members()).find(({ isSynchronous }) => isSynchronous);
    if (waitedFor === undefined) throw new Error("no commit waits for a standby");
    return [waitedFor.host];
  }

  /** Who has the lease, by the address from which it was taken last. */
  async #holder(): Promise<SenderHost> {
    const [row] = await this.#look(
      "SELECT host(address) AS address FROM audit.tenure ORDER BY epoch DESC LIMIT 1",
    );
    const host = hostOf(String(row?.["address"]));
    const holder = SENDERS.find((sender) => sender === host);
    if (holder === undefined) throw new Error("nobody has the lease");
    return holder;
  }

  #sender(host: SenderHost): Service {
    const sender = this.#senders.get(host);
    if (sender === undefined) throw new RangeError(`there is no sender ${host}`);
    return sender;
  }

  async #killDatabases(which: Role): Promise<void> {
    const hosts = await this.#hosts(which);
    await Promise.all(hosts.map((host) => this.#cluster.machine(host).killDatabase()));
    for (const host of hosts) this.#withoutDatabase.add(host);
    if (which === "standbys") this.#noStandbySinceMs = nowMs();
  }

  async #startDatabases(): Promise<void> {
    if (this.#noStandbySinceMs !== undefined) {
      this.#noStandby.push({ fromMs: this.#noStandbySinceMs, toMs: nowMs() });
      this.#noStandbySinceMs = undefined;
    }
    for (const host of this.#withoutDatabase) await this.#cluster.machine(host).start("patroni");
    this.#withoutDatabase.clear();
  }

  async #startMachines(): Promise<void> {
    await Promise.all(
      this.#cluster.machines
        .filter((machine) => !machine.isUp && !this.#destroyed.has(machine.host))
        .map((machine) => machine.boot()),
    );
  }

  #outcomes(): readonly Outcome[] {
    return this.#producers.flatMap((producer) => producer.outcomes());
  }

  async #waitUntilDelivered(): Promise<void> {
    const afterMs = Math.max(this.#lastFaultMs, nowMs() - 1000);
    const isDelivered = () =>
      [this.#outcomes(), ...this.#edges.map((edge) => edge.outcomes())].every((outcomes) =>
        this.#isDelivered(outcomes.filter(({ askedAtMs }) => askedAtMs > afterMs))
      );
    if (!await until(DELIVERED_DEADLINE_MS, isDelivered)) {
      this.#troubles.push("nothing was delivered any more after a fault");
    }
  }

  /** Whether one of them is among the last packets that the server has read. */
  #isDelivered(outcomes: readonly Outcome[]): boolean {
    const wanted = new Set(outcomes.map(({ packet }) => packet));
    const decoder = new TextDecoder();
    return this.#recorder?.reader.update().connections
      .some(({ packets }) =>
        packets.slice(-1000).some(({ bytes }) => wanted.has(decoder.decode(bytes)))
      ) ?? false;
  }

  /** Else nothing would be tested. */
  async #waitUntilUnanswered(): Promise<void> {
    const isUnanswered = async () => {
      const stored = await this.#lastId();
      await delay(ANSWERS_MS);
      const known = new Set(this.#outcomes().map(({ id }) => id));
      for (let id = 1; id <= stored; id++) if (!known.has(id)) return true;
      return false;
    };
    if (!await until(CANCEL_DEADLINE_MS, isUnanswered)) {
      throw new Error("every answer came: nothing was tested");
    }
  }

  async #lastId(): Promise<number> {
    const [row] = await this.#look("SELECT last_id FROM sendq.queue");
    return Number(row?.["last_id"]);
  }

  async #cancelWaits(times: number): Promise<void> {
    const primary = await this.#primary();
    let cancelled = 0;
    const isDone = async () => {
      const rows = await this.#watcher.sql(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep' " +
          "AND query LIKE '%sendq.commit%'",
        primary,
      );
      cancelled += rows.length;
      return cancelled >= times;
    };
    if (!await until(CANCEL_DEADLINE_MS, isDone)) {
      throw new Error(`only ${cancelled} waits could be given up: nothing was tested`);
    }
  }

  async #killForwarder(edge: Edge, times: number): Promise<void> {
    let inDoubt = 0;
    await edge.killForwarder(times, async () => {
      if (await this.#through(edge) > (await edge.counts()).removedThroughId) inDoubt++;
    });
    if (inDoubt === 0) {
      throw new Error("no kill left packets in the file that the cluster has: nothing was tested");
    }
    const words = `${inDoubt} of ${times} kills left packets that the cluster had in the file\n`;
    Deno.writeTextFileSync(`${this.#options.directory}/edges.log`, words, { append: true });
  }

  /** The highest id of an edge's file that the cluster has. */
  async #through({ host }: Edge): Promise<number> {
    const [row] = await this.#look(
      `SELECT through FROM sendq.edge WHERE name = ${quoted(host)}`,
    );
    return Number(row?.["through"] ?? 0);
  }

  /** Else nothing would be tested. */
  async #waitUntilEdgesUnanswered(): Promise<void> {
    for (const edge of this.#edges) {
      const isUnanswered = async () => {
        const through = await this.#through(edge);
        await delay(ANSWERS_MS);
        return through > (await edge.counts()).removedThroughId;
      };
      if (!await until(CANCEL_DEADLINE_MS, isUnanswered)) {
        throw new Error(`every answer to ${edge.host} came: nothing was tested`);
      }
    }
  }

  async #seeThatEdgesHold(least: number): Promise<void> {
    for (const edge of this.#edges) {
      const { packets } = await edge.counts();
      if (packets < least) {
        throw new Error(`${edge.host} has ${packets} packets in its file: nothing was tested`);
      }
    }
  }

  /** Everything is healed, producers know what became of their packets, the rest is delivered. */
  async #finish(): Promise<void> {
    await this.#carryOut({ do: "heal" });
    await this.#carryOut({ do: "continue-sender" });
    await this.#carryOut({ do: "continue-machines" });
    await this.#startDatabases();
    await this.#startMachines();
    await this.#carryOut({ do: "start-senders" });
    const late = delay(FINISH_DEADLINE_MS, "late", { ref: false });
    const stopped = Promise.all([
      ...this.#producers.map((producer) => producer.stop()),
      ...this.#edges.map((edge) => edge.stopStoring()),
    ]);
    if (await Promise.race([stopped, late]) === "late") {
      throw new Error("producers never knew what became of their packets");
    }
    const isEmpty = async () => {
      for (const edge of this.#edges) if ((await edge.counts()).packets > 0) return false;
      try {
        const [row] = await this.#watcher.sql("SELECT packets FROM sendq.queue");
        return Number(row?.["packets"]) === 0;
      } catch {
        return false; // There is no primary at the moment.
      }
    };
    // What is left then is one of the figures.
    await until(FINISH_DEADLINE_MS, isEmpty);
    for (const edge of this.#edges) await edge.stopForwarder();
    // The one that stands by first: it would take over from the other one.
    const holder = await this.#holder();
    const inOrder = [...this.#senders].toSorted(([a], [b]) =>
      Number(a === holder) - Number(b === holder)
    );
    for (const [, sender] of inOrder) await sender.stop();
    await this.#recorder?.[Symbol.asyncDispose]();
  }

  async #evidence(disturbed: Span): Promise<Omit<Evidence, "seconds">> {
    const hosts = (rows: Awaited<ReturnType<Watcher["look"]>>) =>
      rows.map((row) => ({
        epoch: Number(row["epoch"]),
        host: hostOf(String(row["address"])),
      }));
    const [row] = await this.#look("SELECT last_id, packets FROM sendq.queue");
    return {
      outcomes: this.#outcomes(),
      edges: await Promise.all(this.#edges.map(async (edge) => {
        const { packets, deadPackets } = await edge.counts();
        return { letter: edge.letter, outcomes: edge.outcomes(), left: packets + deadPackets };
      })),
      record: this.#readRecord(),
      database: { lastId: Number(row?.["last_id"]), packets: Number(row?.["packets"]) },
      tenures: hosts(await this.#look("SELECT epoch, host(address) AS address FROM audit.tenure")),
      removals: hosts(
        await this.#look("SELECT epoch, host(address) AS address FROM audit.removal"),
      ),
      ends: [...this.#senders.values(), ...this.#edges].flatMap(({ ends }) => ends),
      noStandby: this.#noStandby,
      disturbed,
      troubles: this.#troubles,
    };
  }

  #readRecord(): Evidence["record"] {
    const record = readRecord(this.#record);
    if (!this.#options.fault?.isForgetful) return record;
    // The one in the middle of the longest connection, which no other one carries again.
    const longest = record.toSorted((a, b) => b.packets.length - a.packets.length)[0];
    return record.map((connection) =>
      connection !== longest ? connection : {
        ...connection,
        packets: connection.packets.toSpliced(connection.packets.length >> 1, 1),
      }
    );
  }
}

function isFault(step: Step): boolean {
  return /^(cut|power-cut|kill-.*|stop-.*|destroy-.*|cancel-waits)$/.test(step.do);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

function readIfThere(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}
