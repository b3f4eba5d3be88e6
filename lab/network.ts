/**
 * A sender host, a router and a server host as network namespaces, and faults
 * to inject between them. Needs root and the programs `ip`, `nft` and `tc`;
 * touches nothing outside the namespaces it makes.
 *
 * ```
 *  routed         sender eth0 ──── toSender router toServer ──── eth0 server
 *             192.0.2.2       192.0.2.1    198.51.100.1        198.51.100.2
 *
 *  same-segment   sender eth0 ──── toSender switch toServer ──── eth0 server
 *             192.0.2.2           (a bridge, no address)         192.0.2.3
 * ```
 *
 * A host that loses its power has its network card put on a shelf (a fourth
 * namespace, which answers nothing), so that the cable stays plugged in.
 *
 * @module
 */

import { LineChild, type Spawn } from "./child.ts";
import { newInstanceName, removeNamespaces } from "./namespaces.ts";
import { run } from "./run.ts";

/** The machines of a test network. `"router"` is the switch in a same-segment one. */
export type Host = "sender" | "router" | "server";

/** What a router may answer instead of forwarding; values are nft's words. */
export const REJECTS = {
  "host-unreachable": "reject with icmp type host-unreachable",
  "net-unreachable": "reject with icmp type net-unreachable",
  "admin-prohibited": "reject with icmp type admin-prohibited",
  "port-unreachable": "reject with icmp type port-unreachable",
  "protocol-unreachable": "reject with icmp type prot-unreachable",
  "tcp-reset": "meta l4proto tcp reject with tcp reset",
} as const;

/** See {@linkcode REJECTS}. */
export type RejectKind = keyof typeof REJECTS;

/** Which way, as seen from the sender ("client"). */
export type Direction = "both" | "to-server" | "to-client";

/** Undoes one fault; harmless when called again. */
export type Heal = () => Promise<void>;

/** Options of {@linkcode TestNetwork.create}. */
export interface NetworkOptions {
  /** Whether a router or only a switch lies between the hosts. @default {"routed"} */
  readonly topology?: "routed" | "same-segment";
}

const SENDER_ADDRESS = "192.0.2.2";
const TOPOLOGY = {
  "routed": { server: "198.51.100.2", senderGateway: "192.0.2.1", serverGateway: "198.51.100.1" },
  "same-segment": { server: "192.0.2.3", senderGateway: undefined, serverGateway: undefined },
} as const;
const DELAY_DEVICE = "delay0";
const DELAY_TABLE = 100;
const DELAY_LINE = new URL("./delay_line.ts", import.meta.url).pathname;
/** What networks are made with: how each says its version, and who brings it. */
const PROGRAMS = [
  ["ip", "-V", "iproute2"],
  ["tc", "-V", "iproute2"],
  ["nft", "--version", "nftables"],
] as const;
/** Timer ticks a second on the slowest common kernels: the least burst TBF needs. */
const KERNEL_HZ = 100;

/**
 * A test network. Every fault returns the function that heals it;
 * {@linkcode TestNetwork.heal} heals them all.
 *
 * @example
 * ```ts ignore
 * await using network = await TestNetwork.create();
 * await using server = await RecorderProcess.start({
 *   record: "server.record",
 *   address: network.serverAddress,
 *   spawn: network.spawnerIn("server"),
 * });
 * const heal = await network.silentDrop({ direction: "to-client" });
 * await heal();
 * ```
 */
export class TestNetwork implements AsyncDisposable {
  /** Address of the sender host. */
  readonly senderAddress: string = SENDER_ADDRESS;
  /** Address of the server host. */
  readonly serverAddress: string;
  /** Address of the router, as the sender sees it; undefined where there is none. */
  readonly routerAddress: string | undefined;
  #topology: "routed" | "same-segment";
  #name: string;
  #children: Set<Deno.ChildProcess> = new Set();
  #heals: Set<Heal> = new Set();
  #serverCableOut = false;
  #rules: Map<symbol, readonly string[]> = new Map();

  private constructor(topology: "routed" | "same-segment") {
    this.#topology = topology;
    this.serverAddress = TOPOLOGY[topology].server;
    this.routerAddress = TOPOLOGY[topology].senderGateway;
    this.#name = newInstanceName();
  }

  /**
   * Builds a network; first removes what processes that are gone left behind.
   *
   * @throws {Error} The machine does not permit it; see {@linkcode networkAvailable}.
   */
  static async create(options: NetworkOptions = {}): Promise<TestNetwork> {
    const network = new TestNetwork(options.topology ?? "routed");
    try {
      await network.#build();
      return network;
    } catch (error) {
      await network[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Name of a host's network namespace. */
  namespace(host: Host): string {
    return `${this.#name}-${host}`;
  }

  /**
   * Starts a program on a host. It is killed when the network is disposed of or
   * when the host loses its power.
   */
  spawnIn(
    host: Host,
    command: string,
    args: readonly string[] = [],
    options: Deno.CommandOptions = {},
  ): Deno.ChildProcess {
    const child = new Deno.Command("ip", {
      ...options,
      args: ["netns", "exec", this.namespace(host), command, ...args],
    }).spawn();
    this.#children.add(child);
    child.status.finally(() => this.#children.delete(child));
    return child;
  }

  /** {@linkcode spawnIn} with the host already chosen. */
  spawnerIn(host: Host): Spawn {
    return (command, args, options) => this.spawnIn(host, command, args, options);
  }

  /** Heals every fault, the newest first, and switches on what lost its power. */
  async heal(): Promise<void> {
    for (const heal of [...this.#heals].reverse()) await heal();
  }

  // Faults of the server's side

  /**
   * The server's cable is out. Beyond a router, the router's ARP gives up after
   * 3 s and it answers host-unreachable; on the same segment nobody says a word.
   * It stays out when the server reboots meanwhile.
   */
  cutServerCable(): Promise<Heal> {
    return this.#inject(
      () => {
        this.#serverCableOut = true;
        return this.#ip("server", "link set eth0 down");
      },
      () => {
        this.#serverCableOut = false;
        return this.#configure("server");
      },
    );
  }

  /**
   * The server host stops without a word, at once; its processes and its TCP
   * connections are gone. Healing starts the host again, with its address, but
   * without programs.
   */
  powerOffServer(): Promise<Heal> {
    return this.#inject(() => this.#powerOff("server"), () => this.#powerOn("server"));
  }

  /** {@linkcode powerOffServer} and on again: what is left is an empty host. */
  async rebootServer(): Promise<void> {
    const powerOn = await this.powerOffServer();
    await powerOn();
  }

  // Faults of the path

  /** The router drops packets without a word. */
  silentDrop(options: { direction: Direction }): Promise<Heal> {
    return this.#filter(towards(options.direction).map((to) => `${to} drop`));
  }

  /**
   * Only acknowledgements are lost: what the server sends without data, SYN, FIN
   * or RST. New connections come about; the server reads what it is sent.
   */
  ackDrop(): Promise<Heal> {
    return this.#filter(
      towards("to-client").map((to) => `${to} tcp flags & (fin|syn|rst|psh|ack) == ack drop`),
    );
  }

  /** No new connection comes about; those that exist live on. */
  blackholeSyn(): Promise<Heal> {
    return this.#filter(
      towards("to-server").map((to) => `${to} tcp flags & (syn|ack) == syn drop`),
    );
  }

  /** The router refuses what goes to the server and says so; routed networks only. */
  reject(kind: RejectKind): Promise<Heal> {
    this.#needsRouter("reject");
    return this.#filter(towards("to-server").map((to) => `${to} ${REJECTS[kind]}`));
  }

  /**
   * The router drops packets at random, each way.
   *
   * @param percent Of the packets, in steps of 0.1.
   */
  loss(percent: number): Promise<Heal> {
    if (!(percent >= 0 && percent <= 100)) throw new RangeError(`loss of ${percent} %`);
    const perMille = Math.round(percent * 10);
    const match = perMille < 1000 ? `numgen random mod 1000 < ${perMille}` : "";
    return this.#filter(towards("both").map((to) => `${to} ${match} drop`));
  }

  /**
   * The line is slow, each way: a token bucket (tc-tbf(8)).
   *
   * @param options.kbitPerSecond Its rate.
   * @param options.queueBytes What waits in front of it; more is dropped.
   */
  slowLink(options: { kbitPerSecond: number; queueBytes: number }): Promise<Heal> {
    const { kbitPerSecond, queueBytes } = options;
    const burstBytes = Math.max(1600, Math.ceil(kbitPerSecond * 1000 / 8 / KERNEL_HZ));
    const devices = ["toServer", "toSender"];
    const qdisc = `root tbf rate ${kbitPerSecond}kbit burst ${burstBytes} limit ${queueBytes}`;
    return this.#inject(
      () => this.#tc(devices.map((device) => `qdisc replace dev ${device} ${qdisc}`)),
      () => this.#tc(devices.map((device) => `qdisc del dev ${device} root`)),
    );
  }

  /**
   * The path is long: half of `roundTripMs` each way, through the delay line.
   * Packets under way when a fault begins meet it at the end of the line; the
   * router's own ICMP answers are not delayed on their way back. Routed networks
   * only, once at a time.
   */
  async delay(options: { roundTripMs: number }): Promise<Heal> {
    this.#needsRouter("delay");
    const line = new LineChild(this.spawnerIn("router"), Deno.execPath(), [
      ...["run", "--quiet", "--no-config", "--allow-all", DELAY_LINE],
      ...[DELAY_DEVICE, String(options.roundTripMs / 2)],
    ]);
    try {
      await line.hear();
    } catch (error) {
      await line[Symbol.asyncDispose]();
      throw error;
    }
    // From either host into the line; out of the line by the main table.
    const rules = ["toSender", "toServer"].map((device) => `iif ${device} table ${DELAY_TABLE}`);
    return await this.#inject(
      () =>
        this.#ip(
          "router",
          `link set ${DELAY_DEVICE} up`,
          `route replace default dev ${DELAY_DEVICE} table ${DELAY_TABLE}`,
          ...rules.map((rule) => `rule add ${rule}`),
        ),
      async () => {
        await this.#ip("router", ...rules.map((rule) => `rule del ${rule}`));
        await line[Symbol.asyncDispose]();
      },
    );
  }

  // Faults of the sender's own host

  /** The sender's link is administratively down. */
  ownLinkDown(): Promise<Heal> {
    return this.#ownFault("link set eth0 down");
  }

  /** The sender's cable is out: the link is up, but has no carrier. */
  ownCarrierLost(): Promise<Heal> {
    return this.#inject(
      () => this.#ip("router", "link set toSender down"),
      () => this.#ip("router", "link set toSender up"),
    );
  }

  /** The sender's route to the server is gone. */
  deleteRoute(): Promise<Heal> {
    const route = TOPOLOGY[this.#topology].senderGateway ? "default" : "192.0.2.0/24";
    return this.#ownFault(`route del ${route}`);
  }

  /** The sender's route to the server says "unreachable". */
  unreachableRoute(): Promise<Heal> {
    const host = `${this.serverAddress}/32`;
    return this.#inject(
      () => this.#ip("sender", `route add unreachable ${host}`),
      // Unlike "del", no failure when the host was rebooted meanwhile.
      () => this.#ip("sender", `route flush exact ${host} type unreachable`),
    );
  }

  /** The sender's address is gone, and its routes with it. */
  deleteAddress(): Promise<Heal> {
    return this.#ownFault(`addr del ${SENDER_ADDRESS}/24 dev eth0`);
  }

  /**
   * The sender host stops without a word, at once; its processes and its TCP
   * connections are gone. Healing starts the host again, without programs and
   * with the link, the address and the routes that it had at first.
   */
  powerOffSender(): Promise<Heal> {
    return this.#inject(() => this.#powerOff("sender"), () => this.#powerOn("sender"));
  }

  /** {@linkcode powerOffSender} and on again: what is left is an empty host. */
  async powerCutSender(): Promise<void> {
    const powerOn = await this.powerOffSender();
    await powerOn();
  }

  /** Kills what runs in the network and removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    removeNamespaces(this.#name);
    await Promise.all([...this.#children].map((child) => child.status));
  }

  // How it is done

  async #build(): Promise<void> {
    for (const host of ["sender", "router", "server"] as const) await this.#addHost(host);
    await run("ip", ["netns", "add", this.#shelf]);
    await run("ip", [
      ...["netns", "exec", this.namespace("router"), "sh", "-c"],
      // Packets come back out of the delay line on another device than expected.
      "echo 1 >/proc/sys/net/ipv4/ip_forward && cd /proc/sys/net/ipv4/conf &&" +
      "echo 0 >all/rp_filter && echo 0 >default/rp_filter",
    ]);
    // A host's card keeps its hardware address through a reboot, as a real one does.
    await this.#ip(
      "router",
      `link add toSender type veth peer name eth0 address 02:00:00:00:00:02 netns ${
        this.namespace("sender")
      }`,
      `link add toServer type veth peer name eth0 address 02:00:00:00:00:03 netns ${
        this.namespace("server")
      }`,
    );
    const { senderGateway, serverGateway } = TOPOLOGY[this.#topology];
    if (senderGateway && serverGateway) {
      await this.#ip(
        "router",
        `addr add ${senderGateway}/24 dev toSender`,
        `addr add ${serverGateway}/24 dev toServer`,
        `tuntap add dev ${DELAY_DEVICE} mode tun`,
        `link set ${DELAY_DEVICE} txqueuelen 10000`,
      );
    } else {
      await this.#ip(
        "router",
        "link add switch0 type bridge",
        "link set toSender master switch0",
        "link set toServer master switch0",
        "link set switch0 up",
      );
    }
    await this.#ip("router", "link set toSender up", "link set toServer up");
    await this.#configure("sender");
    await this.#configure("server");
    await this.#applyRules();
    await this.#tc(["qdisc show dev toServer"]);
  }

  get #shelf(): string {
    return `${this.#name}-shelf`;
  }

  async #addHost(host: Host): Promise<void> {
    await run("ip", ["netns", "add", this.namespace(host)]);
    await this.#ip(host, "link set lo up");
  }

  /** Brings a host's card, address and route to what they should be, from wherever they are. */
  async #configure(host: "sender" | "server"): Promise<void> {
    const { senderGateway, serverGateway } = TOPOLOGY[this.#topology];
    const address = host === "sender" ? SENDER_ADDRESS : this.serverAddress;
    const gateway = host === "sender" ? senderGateway : serverGateway;
    await this.#ip(host, `addr replace ${address}/24 dev eth0`);
    if (host === "server" && this.#serverCableOut) return;
    await this.#ip(
      host,
      "link set eth0 up",
      gateway
        ? `route replace default via ${gateway}`
        : `route replace 192.0.2.0/24 dev eth0 src ${address}`,
    );
  }

  async #powerOff(host: "sender" | "server"): Promise<void> {
    // The card goes first: dying processes must not say goodbye.
    await this.#ip(host, `link set eth0 netns ${this.#shelf} name ${host}`);
    if (host === "sender" || !this.#serverCableOut) {
      await run("ip", ["-n", this.#shelf, "link", "set", host, "up"]);
    }
    removeNamespaces(this.namespace(host));
  }

  async #powerOn(host: "sender" | "server"): Promise<void> {
    await this.#addHost(host);
    const card = ["link", "set", host, "netns", this.namespace(host), "name", "eth0"];
    await run("ip", ["-n", this.#shelf, ...card]);
    await this.#configure(host);
  }

  #ownFault(command: string): Promise<Heal> {
    return this.#inject(() => this.#ip("sender", command), () => this.#configure("sender"));
  }

  #filter(rules: readonly string[]): Promise<Heal> {
    const id = Symbol();
    return this.#inject(
      () => {
        this.#rules.set(id, rules);
        return this.#applyRules();
      },
      () => {
        this.#rules.delete(id);
        return this.#applyRules();
      },
    );
  }

  async #inject(cut: () => Promise<void>, undo: () => Promise<void>): Promise<Heal> {
    await cut();
    const heal = async () => {
      if (this.#heals.delete(heal)) await undo();
    };
    this.#heals.add(heal);
    return heal;
  }

  async #applyRules(): Promise<void> {
    const table = `${this.#topology === "routed" ? "inet" : "bridge"} faults`;
    const rules = [...this.#rules.values()].flat();
    await run(
      "ip",
      ["netns", "exec", this.namespace("router"), "nft", "-f", "-"],
      // One transaction. A packet meets the rules once, on its way out to a host.
      [
        `table ${table}`,
        `delete table ${table}`,
        `table ${table} {`,
        "chain forward {",
        "type filter hook forward priority 0; policy accept;",
        ...rules,
        "}",
        "}",
        "",
      ].join("\n"),
    );
  }

  #needsRouter(fault: string): void {
    if (this.#topology !== "routed") throw new RangeError(`${fault}() needs a routed network`);
  }

  async #ip(host: Host, ...commands: string[]): Promise<void> {
    await run("ip", ["-n", this.namespace(host), "-batch", "-"], commands.join("\n") + "\n");
  }

  async #tc(commands: readonly string[]): Promise<void> {
    await run("tc", ["-n", this.namespace("router"), "-batch", "-"], commands.join("\n") + "\n");
  }
}

/**
 * Whether this machine lets a test network be built, found out by building one.
 *
 * @example
 * ```ts ignore
 * const available = await networkAvailable();
 * Deno.test({ name: "cable out", ignore: !available.ok, fn });
 * ```
 */
export async function networkAvailable(): Promise<
  { readonly ok: true } | { readonly ok: false; readonly reason: string }
> {
  if (Deno.build.os !== "linux") return { ok: false, reason: "network namespaces are Linux's" };
  if (Deno.uid() !== 0) return { ok: false, reason: "network namespaces need root" };
  for (const [program, version, debianPackage] of PROGRAMS) {
    if (await starts(program, version)) continue;
    return {
      ok: false,
      reason: `the program ${program} is missing; on Debian: apt install ${debianPackage}`,
    };
  }
  try {
    await using _network = await TestNetwork.create();
    return { ok: true };
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

async function starts(program: string, version: string): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args: [version] }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Rules' matches for a direction, by the device on which the packet leaves. */
function towards(direction: Direction): string[] {
  const toServer = `oifname "toServer"`;
  const toClient = `oifname "toSender"`;
  if (direction === "both") return [toServer, toClient];
  return [direction === "to-server" ? toServer : toClient];
}
