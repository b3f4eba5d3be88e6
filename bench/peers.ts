/**
 * rsyslog and syslog-ng as they are set up to lose as little as they can:
 * lines of 100 bytes come in over TCP, go through the queue on disk, and leave
 * over TCP to the same sink that the sender is measured with.
 *
 * Each is a process of its own in a temporary directory, on ports of loopback,
 * with none of the system's configuration, and is killed at the end; should
 * this process be killed first, the kernel kills it as well.
 *
 * @module
 */

import { LineMaker } from "./packet.ts";
import { Sink } from "./programs.ts";
import type { SinkOptions, SinkReport } from "./sink.ts";

/** A peer that can be measured. */
export interface Peer {
  /** `"syslog-ng, reliable disk buffer, no sync"`. */
  readonly name: string;
  /** The program's name in `/usr/sbin`. */
  readonly program: string;
  /** What the sender's rate is to be, in multiples of the peer's. */
  readonly target: string;
  /** The contents of its configuration file. */
  readonly configuration: (place: Place) => string;
  /** Runs it in the foreground. */
  readonly args: (place: Place) => readonly string[];
  /** Where its modules lie below the directory that it was unpacked in. */
  readonly modules: (root: string) => string;
  /** Files of its queue: proof that the queue on disk is the one in use. */
  readonly queueFile: RegExp;
}

/** Where a peer runs. */
interface Place {
  readonly directory: string;
  readonly inputPort: number;
  readonly sinkPort: number;
  /** Its modules, where they are not in the system's own place. */
  readonly modules: string | undefined;
}

const LIBRARIES = `usr/lib/${Deno.build.arch}-linux-gnu`;

/** Those that the sender is held against. */
export const PEERS: readonly Peer[] = [
  {
    name: "rsyslog, disk queue with sync",
    program: "rsyslogd",
    target: "≥ 300",
    // The only one of its queues that survives a power cut. `Direct` takes the
    // memory queue out of the way in front of it, and an endless timeout makes
    // the input wait where the default is to throw messages away.
    configuration: ({ directory, inputPort, sinkPort }) =>
      `global(workDirectory="${directory}" net.enableDNS="off")
main_queue(queue.type="Direct")
module(load="imptcp" threads="1")
template(name="line" type="string" string="%rawmsg%\\n")
input(type="imptcp" address="127.0.0.1" port="${inputPort}" ruleset="forward"
  supportOctetCountedFraming="off")
ruleset(name="forward" queue.type="Direct") {
  action(type="omfwd" target="127.0.0.1" port="${sinkPort}" protocol="tcp" template="line"
    action.resumeRetryCount="-1"
    queue.type="Disk" queue.filename="outbox" queue.spoolDirectory="${directory}"
    queue.size="1000000" queue.maxDiskSpace="1g" queue.workerThreads="1"
    queue.syncQueueFiles="on" queue.checkpointInterval="1" queue.timeoutEnqueue="600000")
}
`,
    args: ({ directory, modules }) => [
      ...["-n", "-f", `${directory}/peer.conf`, "-i", `${directory}/peer.pid`],
      ...(modules === undefined ? [] : ["-M", modules]),
    ],
    modules: (root) => `${root}/${LIBRARIES}/rsyslog`,
    queueFile: /^outbox\.(qi|\d+)$/,
  },
  syslogNg("syslog-ng, reliable disk buffer, no sync", 'transport("tcp")'),
];

/**
 * syslog-ng over TLS.
 *
 * @param caPath The authority of the sink's certificate.
 */
export function syslogNgOverTls(caPath: string): Peer {
  const transport = `transport("tls") tls(ca-file("${caPath}") peer-verify(required-trusted))`;
  return syslogNg("syslog-ng over TLS, reliable disk buffer, no sync", transport);
}

function syslogNg(name: string, transport: string): Peer {
  return {
    name,
    program: "syslog-ng",
    target: "≥ 4",
    // It never syncs. Flow control makes the input wait for room in the buffer.
    configuration: ({ directory, inputPort, sinkPort }) =>
      `@version: 3.35
options { stats-freq(0); use-dns(no); keep-hostname(yes); };
source s_in {
  network(ip("127.0.0.1") port(${inputPort}) transport("tcp") flags(no-parse)
    log-msg-size(8192) log-iw-size(100000) log-fetch-limit(1000));
};
destination d_out {
  network("127.0.0.1" port(${sinkPort}) ${transport} template("$MSG\\n")
    disk-buffer(reliable(yes) dir("${directory}") disk-buf-size(1073741824)
      mem-buf-size(67108864)));
};
log { source(s_in); destination(d_out); flags(flow-control); };
`,
    args: ({ directory, modules }) => [
      ...["--foreground", "--no-caps", "--cfgfile", `${directory}/peer.conf`],
      ...["--persist-file", `${directory}/peer.persist`, "--pidfile", `${directory}/peer.pid`],
      ...["--control", `${directory}/peer.ctl`],
      ...(modules === undefined ? [] : [`--module-path=${modules}`]),
    ],
    modules: (root) => `${root}/usr/lib/syslog-ng/3.38`,
    queueFile: /\.rqf$/,
  };
}

/** What a peer did. */
export interface PeerReport {
  /** Messages a second that the sink received. */
  readonly packetsPerSecond: number;
  /** CPU seconds of the peer for a million of them. */
  readonly cpuSecondsPerMillion: number;
  readonly rssBytes: number;
}

const PACKET_BYTES = 100;
/** Of /proc/PID/stat; always so on x86_64 and aarch64. */
const CLOCK_TICKS_PER_SECOND = 100;
/** Messages a write; fewer at low rates, so that there is always something to do. */
const CHUNK_PACKETS = 640;
const CHUNKS_PER_SECOND = 100;
const START_MS = 10_000;
const WARM_UP_MS = 2000;
const MEASURE_MS = 3000;
/**
 * Messages that may be under way. Without a bound both take them in faster than
 * they pass them on, and the longer their queues the slower they get.
 */
const WINDOW_PACKETS = 20_000;
const WINDOW_POLL_MS = 2;

/**
 * Why a peer cannot be measured here, if it cannot.
 *
 * @param unpacked Where its package was unpacked, if it is not installed.
 */
export async function peerMissing(
  { program }: Peer,
  unpacked?: string,
): Promise<string | undefined> {
  const root = rootOf(program, unpacked);
  for (const [command, args] of [[pathOf(program, root), ["--version"]], ["setpriv", ["-V"]]]) {
    // rsyslogd knows no long options; that it answers at all is what counts.
    const problem = await tryRun(String(command), [...args ?? []], root);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

async function tryRun(
  command: string,
  args: readonly string[],
  root: string | undefined,
): Promise<string | undefined> {
  try {
    const { code, stderr } = await new Deno.Command(command, {
      ...{ args: [...args], env: environment(root) },
      ...{ stdin: "null", stdout: "null", stderr: "piped" },
    }).output();
    // 127: the dynamic linker misses a library.
    return code === 127 ? new TextDecoder().decode(stderr).trim() : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return `there is no ${command}`;
    throw error;
  }
}

/** Where a peer lies: it was not unpacked where it is installed. */
function rootOf(program: string, unpacked: string | undefined): string | undefined {
  try {
    Deno.statSync(pathOf(program, unpacked));
    return unpacked;
  } catch {
    return undefined;
  }
}

function pathOf(program: string, root: string | undefined): string {
  return `${root ?? ""}/usr/sbin/${program}`;
}

/** Where the libraries lie that were unpacked. */
function environment(root: string | undefined): Record<string, string> {
  if (root === undefined) return {};
  const directories = [LIBRARIES, `lib/${Deno.build.arch}-linux-gnu`, "usr/lib/syslog-ng"];
  return { LD_LIBRARY_PATH: directories.map((directory) => `${root}/${directory}`).join(":") };
}

/** How a peer is fed. */
export interface Feed {
  /** Where its package was unpacked, if it is not installed. */
  readonly root?: string | undefined;
  /** The sink's certificate, where it speaks TLS. */
  readonly tls?: SinkOptions["tls"];
  /** Without it, as fast as it passes messages on. */
  readonly packetsPerSecond?: number;
}

/**
 * Feeds a peer, as fast as it passes messages on or at a rate. What is under way is
 * bounded, so what comes out has been stored.
 *
 * @param peer Which one.
 * @param feed How.
 * @throws {Error} It did not start, lost a message, or did not use its queue on disk.
 */
export async function measurePeer(
  peer: Peer,
  { root: unpacked, tls, packetsPerSecond = Infinity }: Feed = {},
): Promise<PeerReport> {
  const root = rootOf(peer.program, unpacked);
  const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  try {
    await using sink = await Sink.start({
      packetBytes: PACKET_BYTES,
      lines: true,
      ...(tls === undefined ? {} : { tls }),
    });
    const place: Place = {
      directory,
      inputPort: freePort(),
      sinkPort: sink.port,
      modules: root === undefined ? undefined : peer.modules(root),
    };
    await using running = start(peer, place, root);
    const connection = await connect(place.inputPort, running.ended);
    const feeder = new Feeder(connection, () => sink.report(), packetsPerSecond);
    try {
      const before = await feeder.feed(WARM_UP_MS);
      const cpuBefore = cpuSecondsOf(running.pid);
      const after = await feeder.feed(MEASURE_MS);
      const cpuSeconds = cpuSecondsOf(running.pid) - cpuBefore;
      const seconds = (after.atMs - before.atMs) / 1000;
      if (after.missing > 0 || after.repeated > 0 || after.packets === before.packets) {
        throw new Error(
          `${peer.name}: ${after.packets} messages came, ${after.missing} are missing, ` +
            `${after.repeated} were repeated: it is not set up as it should be`,
        );
      }
      if (![...Deno.readDirSync(directory)].some(({ name }) => peer.queueFile.test(name))) {
        throw new Error(`${peer.name}: there is no queue on disk in ${directory}`);
      }
      const packets = after.packets - before.packets;
      return {
        packetsPerSecond: packets / seconds,
        cpuSecondsPerMillion: cpuSeconds * 1e6 / packets,
        rssBytes: rssBytesOf(running.pid),
      };
    } finally {
      connection.close();
    }
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

/** Starts a peer; killed on dispose. */
function start(
  peer: Peer,
  place: Place,
  root: string | undefined,
): AsyncDisposable & { readonly pid: number; readonly ended: Promise<string> } {
  Deno.writeTextFileSync(`${place.directory}/peer.conf`, peer.configuration(place));
  const process = new Deno.Command("setpriv", {
    args: ["--pdeathsig", "KILL", pathOf(peer.program, root), ...peer.args(place)],
    env: environment(root),
    ...{ cwd: place.directory, stdin: "null", stdout: "null", stderr: "piped" },
  }).spawn();
  const words = new Response(process.stderr).text();
  const ended = process.status.then(async ({ code }) =>
    `${peer.name} ended with ${code}: ${await words}`
  );
  return {
    pid: process.pid,
    ended,
    async [Symbol.asyncDispose]() {
      try {
        process.kill("SIGKILL");
      } catch {
        // It has ended by itself.
      }
      await ended;
    },
  };
}

/** What all threads of a process have used. */
function cpuSecondsOf(pid: number): number {
  const stat = ofProcess(pid, "stat");
  // Behind the name, which may contain anything: proc(5), fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / CLOCK_TICKS_PER_SECOND;
}

function rssBytesOf(pid: number): number {
  const status = ofProcess(pid, "status");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024;
}

/** By a program of its own: Deno would want every permission for it. */
function ofProcess(pid: number, file: string): string {
  const { stdout } = new Deno.Command("cat", { args: [`/proc/${pid}/${file}`] }).outputSync();
  return new TextDecoder().decode(stdout);
}

/** Connects as soon as the peer listens. */
async function connect(port: number, ended: Promise<string>): Promise<Deno.TcpConn> {
  let over: string | undefined;
  void ended.then((words) => over = words);
  const deadlineMs = performance.now() + START_MS;
  for (;;) {
    try {
      return await Deno.connect({ hostname: "127.0.0.1", port });
    } catch (error) {
      if (over !== undefined) throw new Error(over);
      if (performance.now() > deadlineMs) throw error;
      await sleep(20);
    }
  }
}

/** Writes lines; the peer's reading and the sink's receiving set the pace. */
class Feeder {
  readonly #connection: Deno.TcpConn;
  readonly #report: () => Promise<SinkReport>;
  readonly #packetsPerSecond: number;
  readonly #chunkPackets: number;
  readonly #maker: LineMaker;
  readonly #startMs = performance.now();
  #packets = 0;

  constructor(
    connection: Deno.TcpConn,
    report: () => Promise<SinkReport>,
    packetsPerSecond: number,
  ) {
    this.#connection = connection;
    this.#report = report;
    this.#packetsPerSecond = packetsPerSecond;
    this.#chunkPackets = Math.min(CHUNK_PACKETS, Math.ceil(packetsPerSecond / CHUNKS_PER_SECOND));
    this.#maker = new LineMaker(PACKET_BYTES, this.#chunkPackets);
  }

  /** Goes on for a time. Returns what the sink had received at its end. */
  async feed(ms: number): Promise<SinkReport & { readonly atMs: number }> {
    const untilMs = performance.now() + ms;
    for (;;) {
      const report = await this.#report();
      const atMs = performance.now();
      if (atMs >= untilMs) return { ...report, atMs };
      const due = this.#packetsPerSecond * (atMs - this.#startMs) / 1000;
      const room = Math.min(report.packets + WINDOW_PACKETS, due) - this.#packets;
      for (let left = room; left >= this.#chunkPackets; left -= this.#chunkPackets) {
        await this.#write();
      }
      await sleep(WINDOW_POLL_MS);
    }
  }

  async #write(): Promise<void> {
    const lines = this.#maker.next();
    for (let offset = 0; offset < lines.length;) {
      offset += await this.#connection.write(lines.subarray(offset));
    }
    this.#packets += this.#chunkPackets;
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
