/**
 * The machines of the cluster ring as network namespaces on one switch. Needs root and the
 * programs `ip` and `nft`; touches nothing outside the namespaces it makes.
 *
 * @module
 */

import type { Spawn } from "../lab/child.ts";
import { newInstanceName, removeNamespaces } from "../lab/namespaces.ts";
import { run } from "../lab/run.ts";

/** The machines, and the last number of each one's address. */
const NUMBERS = {
  watcher: 5,
  db1: 11,
  db2: 12,
  db3: 13,
  sender1: 21,
  sender2: 22,
  server: 30,
  producer1: 41,
  producer2: 42,
  producer3: 43,
  edge1: 51,
  edge2: 52,
  edge3: 53,
} as const;

/** A machine of the ring. */
export type Host = keyof typeof NUMBERS;

/** Those with a database. */
export const DATABASES = ["db1", "db2", "db3"] as const satisfies readonly Host[];
/** One of them. */
export type DatabaseHost = (typeof DATABASES)[number];
/** Those with a sender. */
export const SENDERS = ["sender1", "sender2"] as const satisfies readonly Host[];
/** One of them. */
export type SenderHost = (typeof SENDERS)[number];
/** Those that store packets. */
export const PRODUCERS = ["producer1", "producer2", "producer3"] as const satisfies readonly Host[];
/** Those that store packets into a file of their own, and forward them. */
export const EDGES = ["edge1", "edge2", "edge3"] as const satisfies readonly Host[];
/** One of them. */
export type EdgeHost = (typeof EDGES)[number];

const HOSTS = Object.keys(NUMBERS).filter(isHost);

function isHost(name: string): name is Host {
  return name in NUMBERS;
}

/** A machine's address. */
export function addressOf(host: Host): string {
  return `192.0.2.${NUMBERS[host]}`;
}

/** The machine that an address belongs to, such as `"192.0.2.21"` or `"192.0.2.21:50000"`. */
export function hostOf(address: string): Host | undefined {
  const [ip] = address.split(":");
  return HOSTS.find((host) => addressOf(host) === ip);
}

/** A switch with machines on it. */
export class ClusterNetwork implements AsyncDisposable {
  readonly #name = newInstanceName();
  readonly #children = new Set<Deno.ChildProcess>();
  /** Rules of the switch, by the fault that they are. */
  readonly #rules = new Map<symbol, readonly string[]>();

  private constructor() {}

  /** Builds it, with every machine on. */
  static async create(): Promise<ClusterNetwork> {
    const network = new ClusterNetwork();
    try {
      await run("ip", ["netns", "add", network.#switch]);
      await network.#onSwitch("link add switch0 type bridge", "link set switch0 up");
      for (const host of HOSTS) await network.powerOn(host);
      return network;
    } catch (error) {
      await network[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Name of a machine's network namespace. */
  namespace(host: Host): string {
    return `${this.#name}-${host}`;
  }

  get #switch(): string {
    return `${this.#name}-switch`;
  }

  /** Starts programs on a machine; they end with it. */
  spawnerIn(host: Host): Spawn {
    return (command, args, options) => {
      const child = new Deno.Command("ip", {
        ...options,
        args: ["netns", "exec", this.namespace(host), command, ...args],
      }).spawn();
      this.#children.add(child);
      child.status.finally(() => this.#children.delete(child));
      return child;
    };
  }

  /** What runs on a machine. */
  async processesOn(host: Host): Promise<number[]> {
    const pids = await run("ip", ["netns", "pids", this.namespace(host)]);
    return pids.split("\n").filter((pid) => pid !== "").map(Number);
  }

  /** A machine loses its power: its processes and connections are gone, without a word. */
  async powerOff(host: Host): Promise<void> {
    // The cable goes first: dying processes must not say goodbye.
    await this.#onSwitch(`link del ${host}`);
    removeNamespaces(this.namespace(host));
  }

  /** It is up again, with its address, and without programs. */
  async powerOn(host: Host): Promise<void> {
    const namespace = this.namespace(host);
    await run("ip", ["netns", "add", namespace]);
    await this.#onSwitch(
      `link add ${host} type veth peer name eth0 netns ${namespace}`,
      `link set ${host} master switch0`,
      `link set ${host} up`,
    );
    const commands = [
      "link set lo up",
      `addr add ${addressOf(host)}/24 dev eth0`,
      "link set eth0 up",
    ];
    await run("ip", ["-n", namespace, "-batch", "-"], commands.join("\n") + "\n");
  }

  /**
   * Drops every packet from one group of machines to another, without a word. Returns what
   * undoes it.
   */
  async drop(from: readonly Host[], to: readonly Host[]): Promise<() => Promise<void>> {
    const id = Symbol();
    const set = (hosts: readonly Host[]) => `{ ${hosts.map((host) => `"${host}"`).join(", ")} }`;
    this.#rules.set(id, [`iifname ${set(from)} oifname ${set(to)} drop`]);
    await this.#applyRules();
    return async () => {
      if (this.#rules.delete(id)) await this.#applyRules();
    };
  }

  /** As {@linkcode ClusterNetwork.drop}, in both directions. */
  async cut(some: readonly Host[], others: readonly Host[]): Promise<() => Promise<void>> {
    const heals = [await this.drop(some, others), await this.drop(others, some)];
    return async () => {
      for (const heal of heals) await heal();
    };
  }

  /** A machine's cable is out. Returns what undoes it. */
  cutOff(host: Host): Promise<() => Promise<void>> {
    return this.cut([host], HOSTS.filter((other) => other !== host));
  }

  /** Kills what runs in the network and removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    removeNamespaces(this.#name);
    await Promise.all([...this.#children].map((child) => child.status));
  }

  async #applyRules(): Promise<void> {
    const table = "bridge faults";
    await run(
      "ip",
      ["netns", "exec", this.#switch, "nft", "-f", "-"],
      // One transaction.
      [
        ...[`table ${table}`, `delete table ${table}`, `table ${table} {`],
        ...["chain forward {", "type filter hook forward priority 0; policy accept;"],
        ...[...this.#rules.values()].flat(),
        ...["}", "}", ""],
      ].join("\n"),
    );
  }

  async #onSwitch(...commands: string[]): Promise<void> {
    await run("ip", ["-n", this.#switch, "-batch", "-"], commands.join("\n") + "\n");
  }
}
