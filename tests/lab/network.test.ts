import assert from "node:assert/strict";
import { type Heal, type Host, networkAvailable, TestNetwork } from "../../lab/network.ts";
import { RecorderProcess } from "../../lab/recorder_process.ts";
import { isQuiet } from "../../lab/sockets.ts";
import { Pinger } from "../support/pinger_process.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

const available = await networkAvailable();
if (!available.ok) {
  // deno-lint-ignore no-console -- a skipped test says why
  console.log(`tests of the test network are ignored: ${available.reason}`);
}

const PORT = 4000;
/** How long an answer is awaited where none may come. */
const SILENCE_MS = 400;
/** Generous: it only ends a failed test. */
const DEADLINE_MS = 30_000;

interface Hosts {
  readonly network: TestNetwork;
  readonly server: RecorderProcess;
  readonly client: Pinger;
  readonly startServer: () => Promise<RecorderProcess>;
}

type Topology = "routed" | "same-segment";

function test(name: string, topology: Topology, body: (hosts: Hosts) => Promise<void>): void {
  Deno.test({
    name: `network, ${topology}: ${name}`,
    ignore: !available.ok,
    fn: async () => {
      const folder = await Deno.makeTempDir();
      try {
        await using network = await TestNetwork.create({ topology });
        let lives = 0;
        const startServer = () =>
          RecorderProcess.start({
            record: `${folder}/record${++lives}`,
            address: network.serverAddress,
            port: PORT,
            commands: ["reply on"],
            spawn: network.spawnerIn("server"),
          });
        await using server = await startServer();
        await using client = startClient(network);
        assert.equal((await client.do(`connect ${DEADLINE_MS}`)).error, undefined);
        assert.equal((await client.do(`ping ${DEADLINE_MS}`)).error, undefined);
        await body({ network, server, client, startServer });
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

function startClient(network: TestNetwork): Pinger {
  return new Pinger(network.spawnerIn("sender"), network.serverAddress, PORT);
}

/** Standard output of a program on a host. */
async function outputOf(network: TestNetwork, host: Host, ...command: string[]): Promise<string> {
  const [program = "", ...args] = command;
  const child = network.spawnIn(host, program, args, { stdout: "piped", stdin: "null" });
  return new TextDecoder().decode((await child.output()).stdout);
}

/** Send-Q of the host's TCP connections, summed: proc_net_tcp(5). */
async function sendQueueBytes(network: TestNetwork, host: Host): Promise<number> {
  const [, ...sockets] = (await outputOf(network, host, "cat", "/proc/net/tcp")).trim().split("\n");
  return sockets
    .map((socket) => socket.trim().split(/\s+/))
    .filter(([, , , state]) => state === "01")
    .reduce((sum, [, , , , queues = "0"]) => sum + parseInt(queues, 16), 0);
}

async function namespacesWith(text: string): Promise<string[]> {
  const { stdout } = await new Deno.Command("ip", { args: ["netns", "list"] }).output();
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line.includes(text));
}

/** What a fault does to a connection that exists and to one that is being made. */
interface FaultCase {
  readonly name: string;
  readonly topologies: readonly Topology[];
  readonly inject: (network: TestNetwork) => Promise<Heal>;
  /** A ping on the existing connection; undefined: it is answered. */
  readonly ping: string | undefined;
  /** Whether the server reads what is written meanwhile. */
  readonly serverReads: boolean;
  /** A new connection; undefined: it comes about. */
  readonly connect: string | undefined;
  /** How long the error of the new connection may take. @default {400} */
  readonly connectMs?: number;
}

const BOTH = ["routed", "same-segment"] as const;
const ROUTED = ["routed"] as const;
const MUTE = { ping: "timeout", serverReads: false, connect: "timeout" } as const;
/** The attempt to connect is told why not; the existing connection is not. */
const ANSWERED = { ping: "timeout", serverReads: false, connectMs: DEADLINE_MS } as const;

const FAULTS: readonly FaultCase[] = [
  {
    name: "server's cable out",
    topologies: BOTH,
    inject: (network) => network.cutServerCable(),
    ...MUTE,
  },
  {
    name: "silent drop both ways",
    topologies: BOTH,
    inject: (network) => network.silentDrop({ direction: "both" }),
    ...MUTE,
  },
  {
    name: "silent drop to the server",
    topologies: BOTH,
    inject: (network) => network.silentDrop({ direction: "to-server" }),
    ...MUTE,
  },
  {
    name: "silent drop to the client",
    topologies: BOTH,
    inject: (network) => network.silentDrop({ direction: "to-client" }),
    ...{ ...MUTE, serverReads: true },
  },
  {
    name: "SYN blackhole",
    topologies: BOTH,
    inject: (network) => network.blackholeSyn(),
    ...{ ping: undefined, serverReads: true, connect: "timeout" },
  },
  {
    name: "loss of everything",
    topologies: BOTH,
    inject: (network) => network.loss(100),
    ...MUTE,
  },
  ...([
    ["host-unreachable", "EHOSTUNREACH"],
    ["net-unreachable", "ENETUNREACH"],
    ["admin-prohibited", "EHOSTUNREACH"],
    ["port-unreachable", "ECONNREFUSED"],
    ["protocol-unreachable", "os error 92"], // ENOPROTOOPT,
  ] as const).map(([kind, connect]): FaultCase => ({
    name: `reject with ${kind}`,
    topologies: ROUTED,
    inject: (network) => network.reject(kind),
    ...{ ...ANSWERED, connect },
  })),
  {
    name: "own link down",
    topologies: BOTH,
    inject: (network) => network.ownLinkDown(),
    ...{ ...ANSWERED, connect: "ENETUNREACH" },
  },
  {
    name: "own carrier lost",
    topologies: BOTH,
    inject: (network) => network.ownCarrierLost(),
    ...MUTE,
  },
  {
    name: "route deleted",
    topologies: BOTH,
    inject: (network) => network.deleteRoute(),
    ...{ ...ANSWERED, connect: "ENETUNREACH" },
  },
  {
    name: "unreachable route",
    topologies: BOTH,
    inject: (network) => network.unreachableRoute(),
    ...{ ...ANSWERED, connect: "EHOSTUNREACH" },
  },
  {
    name: "own address deleted",
    topologies: BOTH,
    inject: (network) => network.deleteAddress(),
    ...{ ...ANSWERED, connect: "ENETUNREACH" },
  },
];

for (const fault of FAULTS) {
  for (const topology of fault.topologies) {
    test(fault.name, topology, async ({ network, server, client }) => {
      await using other = startClient(network);
      const read = server.reader.update().packetCount;
      const heal = await fault.inject(network);
      // First, for a router sends few ICMP messages a second to each host.
      const connectMs = fault.connectMs ?? (fault.connect === undefined ? DEADLINE_MS : SILENCE_MS);
      assert.equal((await other.do(`connect ${connectMs}`)).error, fault.connect);
      const pingMs = fault.ping === "timeout" ? SILENCE_MS : DEADLINE_MS;
      assert.equal((await client.do(`ping ${pingMs}`)).error, fault.ping);
      if (fault.serverReads) {
        await until("the server reads", () => server.reader.update().packetCount > read);
      } else {
        assert.equal(server.reader.update().packetCount, read);
      }
      await heal();
      await heal(); // Healing twice does no harm.
      assert.equal((await client.do(`ping ${DEADLINE_MS}`)).error, undefined, "healed");
      assert.equal((await other.do(`connect ${DEADLINE_MS}`)).error, undefined, "healed");
    });
  }
}

test("server's cable out: the router says so", "routed", async ({ network, client }) => {
  await network.cutServerCable();
  const { error, ms } = await client.do(`connect ${DEADLINE_MS}`);
  assert.equal(error, "EHOSTUNREACH");
  assert.ok(ms >= 2000, `after ${ms} ms; ARP tries for 3 s`);
});

test("own carrier lost: the card sees it, and its return", "routed", async ({ network }) => {
  const carrier = async () =>
    (await outputOf(network, "sender", "cat", "/sys/class/net/eth0/carrier")).trim();
  assert.equal(await carrier(), "1");
  const heal = await network.ownCarrierLost();
  assert.equal(await carrier(), "0");
  await heal();
  assert.equal(await carrier(), "1");
});

test("acknowledgements dropped", "routed", async ({ network, server, client }) => {
  await server.command("reply off");
  await until("all is acknowledged", async () => await sendQueueBytes(network, "sender") === 0);
  const read = server.reader.update().packetCount;
  const heal = await network.ackDrop();
  assert.equal((await client.do(`ping ${SILENCE_MS}`)).error, "timeout");
  await until("the server reads", () => server.reader.update().packetCount > read);
  assert.equal(await sendQueueBytes(network, "sender"), "ping 2\n".length);
  assert.equal((await client.do(`connect ${DEADLINE_MS}`)).error, undefined);
  await heal();
  await until("all is acknowledged", async () => await sendQueueBytes(network, "sender") === 0);
});

test("reset by the router", "routed", async ({ network, client }) => {
  const heal = await network.reject("tcp-reset");
  assert.equal((await client.do(`ping ${DEADLINE_MS}`)).error, "ECONNRESET");
  assert.equal((await client.do(`connect ${DEADLINE_MS}`)).error, "ECONNREFUSED");
  await heal();
  assert.equal((await client.do(`connect ${DEADLINE_MS}`)).error, undefined);
});

test("heal() heals several faults", "routed", async ({ network, client }) => {
  await network.silentDrop({ direction: "to-client" });
  await network.cutServerCable();
  await network.deleteAddress();
  assert.equal((await client.do(`ping ${SILENCE_MS}`)).error, "timeout");
  await network.heal();
  assert.equal((await client.do(`ping ${DEADLINE_MS}`)).error, undefined);
});

for (const topology of BOTH) {
  test("server reboots", topology, async ({ network, server, client, startServer }) => {
    const powerOn = await network.powerOffServer();
    assert.equal((await client.do(`ended ${SILENCE_MS}`)).error, "timeout", "no goodbye");
    assert.equal(server.reader.update().connections[0]?.end, "open");
    assert.equal((await client.do(`ping ${SILENCE_MS}`)).error, "timeout");
    await powerOn();
    assert.equal((await client.do(`ended ${DEADLINE_MS}`)).error, "ECONNRESET");
    await using _next = await startServer();
    assert.equal((await client.do(`connect ${DEADLINE_MS}`)).error, undefined);
    assert.equal((await client.do(`ping ${DEADLINE_MS}`)).error, undefined);
    await network.rebootServer();
    assert.equal((await client.do(`ping ${DEADLINE_MS}`)).error, "ECONNRESET");
  });

  test("server reboots while its cable is out", topology, async (hosts) => {
    const { network, client, startServer } = hosts;
    const heal = await network.cutServerCable();
    await network.rebootServer();
    await using server = await startServer();
    await using other = startClient(network);
    assert.equal((await other.do(`connect ${SILENCE_MS}`)).error, "timeout");
    assert.equal((await client.do(`ping ${SILENCE_MS}`)).error, "timeout");
    await heal();
    assert.equal((await client.do(`ended ${DEADLINE_MS}`)).error, "ECONNRESET");
    assert.equal((await other.do(`connect ${DEADLINE_MS}`)).error, undefined);
    assert.equal((await other.do(`ping ${DEADLINE_MS}`)).error, undefined);
    assert.equal(server.reader.update().packetCount, 1);
  });

  test("power cut of the sender during faults of its own", topology, async ({ network }) => {
    await network.unreachableRoute();
    await network.deleteAddress();
    await network.ownCarrierLost();
    await network.powerCutSender();
    await using client = startClient(network);
    assert.equal((await client.do(`connect ${SILENCE_MS}`)).error, "timeout", "no cable");
    await network.heal();
    assert.equal((await client.do(`connect ${DEADLINE_MS}`)).error, undefined);
    assert.equal((await client.do(`ping ${DEADLINE_MS}`)).error, undefined);
  });

  test("power cut of the sender", topology, async ({ network, server, client }) => {
    const heal = await network.silentDrop({ direction: "to-server" });
    assert.equal((await client.do(`ping ${SILENCE_MS}`)).error, "timeout");
    assert.ok(await sendQueueBytes(network, "sender") > 0);
    const read = server.reader.update().packetCount;
    await network.powerCutSender();
    await heal();
    assert.equal((await client.child.process.status).signal, "SIGKILL");
    const sockets = (await outputOf(network, "sender", "cat", "/proc/net/tcp")).trim().split("\n");
    assert.equal(sockets.length, 1, "the table's heading only");
    await using next = startClient(network);
    assert.equal((await next.do(`connect ${DEADLINE_MS}`)).error, undefined);
    assert.equal((await next.do(`ping ${DEADLINE_MS}`)).error, undefined);
    const [first, second] = server.reader.update().connections;
    assert.equal(first?.packets.length, read, "what was in the sender's kernel is gone");
    assert.equal(first.end, "open", "no goodbye");
    assert.equal(second?.packets.length, 1);
  });
}

test("random loss", "routed", async ({ network }) => {
  // Datagrams that arrive where nobody listens are counted by the server's kernel.
  const arrived = async () => {
    const counters = await outputOf(network, "server", "cat", "/proc/net/snmp");
    const [names, values] = counters.split("\n").filter((line) => line.startsWith("Udp:"))
      .map((line) => line.split(" "));
    return Number(values?.[names?.indexOf("NoPorts") ?? -1]);
  };
  await using client = startClient(network);
  for (
    const { percent, least, most } of [
      { percent: 0, least: 2000, most: 2000 },
      // Ten standard deviations to either side of the mean, 1600.
      { percent: 20, least: 1420, most: 1780 },
    ]
  ) {
    const before = await arrived();
    const heal = await network.loss(percent);
    assert.equal((await client.do("datagrams 2000")).error, undefined);
    await heal();
    const got = await arrived() - before;
    assert.ok(got >= least && got <= most, `${got} of 2000 at ${percent} % loss`);
  }
});

test("slow link", "routed", async ({ network, server, client }) => {
  const heal = await network.slowLink({ kbitPerSecond: 256, queueBytes: 20_000 });
  const start = performance.now();
  assert.equal((await client.do("write 64000")).error, undefined);
  await until("64 kB read", () => server.reader.update().byteCount >= 64_000);
  const ms = performance.now() - start;
  assert.ok(ms >= 1900, `64 kB took ${ms} ms; 2 s less a burst were expected`);
  await heal();
  assert.equal((await client.do(`ping ${DEADLINE_MS}`)).error, undefined);
});

test("delay", "routed", async ({ network, client }) => {
  // The machine adds to a round trip, and takes nothing away; timers of a millisecond's
  // grain, one each way, may.
  const leastMs = 98;
  const pingMs = async () => (await client.do(`ping ${DEADLINE_MS}`)).ms;
  const heal = await network.delay({ roundTripMs: 100 });
  const connect = await client.do(`connect ${DEADLINE_MS}`);
  assert.equal(connect.error, undefined);
  assert.ok(connect.ms >= leastMs, `connected in ${connect.ms} ms`);
  for (let i = 0; i < 5; i++) {
    const ms = await pingMs();
    assert.ok(ms >= leastMs, `round trip ${ms} ms`);
  }
  await until("the delay comes once, not twice", async () => await pingMs() < 200);
  const drop = await network.silentDrop({ direction: "both" });
  assert.equal((await client.do(`ping ${SILENCE_MS}`)).error, "timeout");
  await drop();
  assert.equal((await client.do(`ping ${DEADLINE_MS}`)).error, undefined);
  await heal();
  await until("a round trip without the delay", async () => await pingMs() < 100);
});

test("a host is quiet once what was sent to it has been read, and not before", "routed", async (
  { network, server, client },
) => {
  const spawn = network.spawnerIn("server");
  await server.command("stop-reading");
  assert.equal((await client.do("write 100")).error, undefined);
  await server.command("await-unread");
  // Its connections end, with the client's last bytes unread.
  await client[Symbol.asyncDispose]();
  assert.equal(await isQuiet(spawn), false);
  await server.command("resume");
  await until("the server has read it all", () => isQuiet(spawn));
});

Deno.test({
  name: "network: what needs a router is refused on one segment",
  ignore: !available.ok,
  fn: async () => {
    await using network = await TestNetwork.create({ topology: "same-segment" });
    assert.throws(() => network.reject("tcp-reset"), RangeError);
    await assert.rejects(network.delay({ roundTripMs: 10 }), RangeError);
  },
});

Deno.test({
  name: "network: several at once do not meet",
  ignore: !available.ok,
  fn: async () => {
    await using one = await TestNetwork.create();
    await using two = await TestNetwork.create();
    assert.notEqual(one.namespace("router"), two.namespace("router"));
    await one.cutServerCable();
    const state = (network: TestNetwork) =>
      outputOf(network, "server", "ip", "-brief", "link", "show", "eth0");
    assert.match(await state(one), /DOWN/);
    assert.match(await state(two), /UP/);
  },
});

Deno.test({
  name: "network: disposing kills what runs in it, grandchildren too",
  ignore: !available.ok,
  fn: async () => {
    const network = await TestNetwork.create();
    const child = network.spawnIn("server", "sh", ["-c", "sleep 1000 & echo $!; wait"], {
      stdout: "piped",
    });
    const { value } = await child.stdout.getReader().read();
    const grandchild = Number(new TextDecoder().decode(value));
    await network[Symbol.asyncDispose]();
    await network[Symbol.asyncDispose]();
    assert.equal((await child.status).signal, "SIGKILL");
    await until("the grandchild ends", () => !running(grandchild));
    assert.deepEqual(await namespacesWith(network.namespace("server")), []);
  },
});

/** Asks `cat`, because Deno lets nobody without every permission read /proc. */
function running(pid: number): boolean {
  const { success, stdout } = new Deno.Command("cat", {
    args: [`/proc/${pid}/status`],
    stderr: "null",
  }).outputSync();
  return success && !/^State:\s+Z/m.test(new TextDecoder().decode(stdout));
}

const PROGRAM = `
  import { TestNetwork } from ${JSON.stringify(new URL("../../lab/network.ts", import.meta.url))};
  await using network = await TestNetwork.create();
  network.spawnIn("server", "sleep", ["1000"], { stdout: "null", stderr: "null" });
  console.log(network.namespace("server"));
  const { value } = await Deno.stdin.readable.getReader().read();
  if (new TextDecoder().decode(value) === "exit") Deno.exit(1);
  throw new Error("as told");
`;

for (const end of ["SIGINT", "SIGTERM", "SIGHUP", "exception", "exit", "SIGKILL"] as const) {
  Deno.test({
    name: `network: nothing is left behind after ${end}`,
    ignore: !available.ok,
    fn: async () => {
      const folder = await Deno.makeTempDir();
      try {
        const path = `${folder}/program.ts`;
        await Deno.writeTextFile(path, PROGRAM);
        const program = new Deno.Command(Deno.execPath(), {
          args: ["run", "--quiet", "--no-config", "--allow-all", path],
          stdin: "piped",
          stdout: "piped",
          stderr: "piped",
        }).spawn();
        const complaint = new Response(program.stderr).text();
        const output = program.stdout.getReader();
        const name = new TextDecoder().decode((await output.read()).value).trim();
        if (name === "") throw new Error(`no network was built: ${await complaint}`);
        assert.equal((await namespacesWith(name)).length, 1);
        const input = program.stdin.getWriter();
        const told = end === "exception" || end === "exit";
        if (told) await input.write(new TextEncoder().encode(end));
        else program.kill(end);
        const { signal, code } = await program.status;
        await input.abort().catch(() => {});
        await output.cancel();
        await complaint;
        assert.equal(signal ?? code, told ? 1 : end);
        if (end === "SIGKILL") {
          // Nobody can clean up then; the next network does, whichever process builds it.
          await using _next = await TestNetwork.create();
          assert.deepEqual(await namespacesWith(name), []);
        } else {
          assert.deepEqual(await namespacesWith(name), []);
        }
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

Deno.test({
  name: "network: without nft it says what to install",
  ignore: !available.ok,
  async fn() {
    using dir = new TempDir();
    for (const program of ["ip", "tc"]) {
      const { stdout } = await new Deno.Command("which", { args: [program] }).output();
      Deno.symlinkSync(new TextDecoder().decode(stdout).trim(), dir.file(program));
    }
    const network = new URL("../../lab/network.ts", import.meta.url).href;
    const code = `console.log((await (await import("${network}")).networkAvailable()).reason)`;
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["eval", "--quiet", code],
      env: { PATH: dir.path },
    }).output();
    assert.equal(
      new TextDecoder().decode(stdout),
      "the program nft is missing; on Debian: apt install nftables\n",
    );
  },
});
