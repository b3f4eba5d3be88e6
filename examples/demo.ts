/**
 * A producer pipes 20,000 packets into `sendq send`. Meanwhile the server is
 * killed and started again, and the path is cut where this machine lets network
 * namespaces be made. At the end, what the server has recorded is compared with
 * what was produced, packet by packet.
 *
 * ```sh
 * deno task demo
 * ```
 *
 * @module
 */
// deno-lint-ignore-file no-console

// @ts-types="./cli_progress.d.ts"
import { Presets, SingleBar } from "cli-progress";
import process from "node:process";
import { spawnHere } from "../lab/child.ts";
import { compare, type Comparison } from "../lab/compare.ts";
import { networkAvailable, TestNetwork } from "../lab/network.ts";
import { readRecord } from "../lab/record.ts";
import { RecorderProcess } from "../lab/recorder_process.ts";
import { libcCandidates } from "../src/kernel/libc.ts";

const PACKETS = 20_000;
const PACKETS_PER_STEP = 100;
const STEP_MS = 40;
const KILL_AT = 6_000;
const SERVER_DOWN_MS = 1_000;
const CUT_AT = 13_000;
/** The path stays cut until sendq has noticed, and this much longer. */
const CUT_AFTER_NOTICE_MS = 500;

const SENDQ = new URL("../src/cli/main.ts", import.meta.url).pathname;

/** What a JSON log line of `send` may hold, as far as it is used here. */
interface LogLine {
  readonly time: string;
  readonly level: string;
  readonly message: string;
  readonly lastPacketId?: number;
  readonly queuedPackets?: number;
  readonly redeliveredPackets?: number;
  readonly connections?: number;
}

/** The bar, and the story above it. */
class Show {
  readonly #startMs = performance.now();
  readonly #bar = new SingleBar({
    format: "  {bar} {value} of {total} confirmed, {queued} in the queue",
    stream: process.stdout,
    hideCursor: true,
    noTTYOutput: true,
    notTTYSchedule: 2000,
  }, Presets.shades_classic);

  constructor() {
    this.#bar.start(PACKETS, 0, { queued: 0 });
  }

  get seconds(): number {
    return (performance.now() - this.#startMs) / 1000;
  }

  progress(confirmed: number, queued: number): void {
    this.#bar.update(confirmed, { queued });
  }

  tell(words: string): void {
    const clear = Deno.stdout.isTerminal() ? "\r\x1b[K" : "";
    console.log(`${clear}${this.seconds.toFixed(1).padStart(5)} s  ${words}`);
  }

  end(): void {
    this.#bar.stop();
  }
}

/** `sendq send`, fed through a pipe, its log read as JSON lines. */
class SendCommand {
  readonly child: Deno.ChildProcess;
  readonly logRead: Promise<void>;
  last: LogLine | undefined;
  readonly #show: Show;
  readonly #pipe: WritableStreamDefaultWriter<Uint8Array>;
  readonly #waiters = new Map<RegExp, () => void>();

  constructor(spawn: typeof spawnHere, remote: string, queue: string, show: Show) {
    this.#show = show;
    const files = `${queue},${queue}.lock`;
    this.child = spawn(Deno.execPath(), [
      ...["run", "--quiet", `--allow-net=${remote.replace("tcp://", "")}`],
      ...[`--allow-read=${files}`, `--allow-write=${files}`, `--allow-ffi=${libcPath()}`, SENDQ],
      ...["send", remote, "--queue", queue, "--log-format", "json", "--status-interval", "100ms"],
    ], { stdin: "piped", stdout: "null", stderr: "piped" });
    this.#pipe = this.child.stdin.getWriter();
    this.logRead = this.#readLog();
  }

  /** Resolves once the pipe has taken it, which is once the queue keeps up. */
  async write(text: string): Promise<void> {
    await this.#pipe.write(new TextEncoder().encode(text));
  }

  /** Resolves with the next message like this, or once there are no more. */
  async says(pattern: RegExp): Promise<void> {
    const said = new Promise<void>((resolve) => this.#waiters.set(pattern, resolve));
    await Promise.race([said, this.logRead]);
  }

  async end(): Promise<number> {
    await this.#pipe.close();
    await this.logRead;
    return (await this.child.status).code;
  }

  async #readLog(): Promise<void> {
    let rest = "";
    for await (const text of this.child.stderr.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(line);
    }
  }

  #take(text: string): void {
    if (!text.startsWith("{")) return console.error(text);
    const line: LogLine = JSON.parse(text);
    for (const [pattern, resolve] of this.#waiters) {
      if (pattern.test(line.message)) resolve();
    }
    const { lastPacketId, queuedPackets } = line;
    if (lastPacketId === undefined || queuedPackets === undefined) {
      return this.#show.tell(`sendq: ${line.message}`);
    }
    this.last = line;
    this.#show.progress(lastPacketId - queuedPackets, queuedPackets);
  }
}

/** Each packet differs from all others, or a loss could hide behind its twin. */
function packet(i: number): string {
  return `packet ${String(i).padStart(6, "0")} ${"temperature 21.5 ".repeat(5)}\n`;
}

function libcPath(): string {
  const paths = libcCandidates().map(({ path }) => path);
  return paths.find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  }) ?? "";
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function main(): Promise<number> {
  const cuttable = await networkAvailable();
  await using network = cuttable.ok ? await TestNetwork.create() : undefined;
  console.log(
    network === undefined
      ? `Sender and server are processes on loopback. The part with the cut path is left out:\n` +
        `${cuttable.ok ? "" : cuttable.reason}.\n`
      : "Sender, router and server are network namespaces with cables between them.\n",
  );
  const directory = await Deno.makeTempDir({ prefix: "sendq-demo-" });
  try {
    return await demonstrate(directory, network);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function demonstrate(directory: string, network: TestNetwork | undefined): Promise<number> {
  const address = network?.serverAddress ?? "127.0.0.1";
  const records = [`${directory}/server-1.record`, `${directory}/server-2.record`] as const;
  const startServer = (record: string, port: number) =>
    RecorderProcess.start({
      record,
      address,
      port,
      spawn: network?.spawnerIn("server") ?? spawnHere,
    });

  await using firstServer = await startServer(records[0], 0);
  const remote = `tcp://${address}:${firstServer.port}`;
  const show = new Show();
  show.tell(`producer | sendq send ${remote} --queue outbox.db`);
  const spawn = network?.spawnerIn("sender") ?? spawnHere;
  const send = new SendCommand(spawn, remote, `${directory}/outbox.db`, show);

  // The faults go on while packets are produced; what happens is awaited, not scheduled.
  const restarted = Promise.withResolvers<RecorderProcess>();
  let cut = Promise.resolve();
  for (let i = 0; i < PACKETS; i += PACKETS_PER_STEP) {
    if (i === KILL_AT) restarted.resolve(killServer(firstServer, startServer, records[1], show));
    if (i === CUT_AT && network !== undefined) cut = cutPath(network, send, show);
    await send.write(
      Array.from({ length: PACKETS_PER_STEP }, (_, step) => packet(i + step)).join(""),
    );
    await delay(STEP_MS);
  }
  show.tell(`the producer has ended; ${PACKETS} packets are on disk or delivered`);
  await cut;
  await using secondServer = await restarted.promise;
  const code = await send.end();
  const seconds = show.seconds;
  show.end();
  await secondServer.signal("SIGKILL");

  const produced = Array.from({ length: PACKETS }, (_, i) => packet(i));
  return report(compare(produced, readRecord(...records)), send.last, seconds, code);
}

async function killServer(
  server: RecorderProcess,
  start: (record: string, port: number) => Promise<RecorderProcess>,
  record: string,
  show: Show,
): Promise<RecorderProcess> {
  await server.signal("SIGKILL");
  show.tell("the server was killed (kill -9)");
  await delay(SERVER_DOWN_MS);
  const again = await start(record, server.port);
  show.tell("the server is back");
  return again;
}

async function cutPath(network: TestNetwork, send: SendCommand, show: Show): Promise<void> {
  const noticed = send.says(/path dead/);
  const heal = await network.silentDrop({ direction: "both" });
  show.tell("the path is cut: the router drops every packet without a word");
  await noticed;
  await delay(CUT_AFTER_NOTICE_MS);
  await heal();
  show.tell("the path is whole again");
}

/** Prints the table. Returns the exit code. */
function report(
  found: Comparison,
  figures: LogLine | undefined,
  seconds: number,
  sendCode: number,
): number {
  const { sent, delivered, lost, duplicated, unknown, outOfOrderWithinConnection } = found;
  const rows: [string, string, string][] = [
    ["enqueued", String(sent), "packets that the producer wrote into the pipe"],
    ["delivered", String(delivered), "of them, recorded by the server at least once"],
    ["lost", String(lost.length), ""],
    ["redelivered", String(figures?.redeliveredPackets), "sent again, because nobody could know"],
    ["duplicates", String(duplicated), "of those, recorded by the server more than once"],
    ["reconnects", String((figures?.connections ?? 0) - 1), ""],
    ["seconds", seconds.toFixed(1), ""],
  ];
  for (const [name, value, meaning] of rows) {
    console.log(`  ${name.padEnd(12)} ${value.padStart(7)}   ${meaning}`.trimEnd());
  }
  console.log(`
Compared packet by packet. A server that is killed takes bytes with it that its
kernel had acknowledged and it had not read; no kernel reading can see that. This
server reads at once, and sendq sends again what was acknowledged less than a
second (--hold) before the connection broke, so nothing is lost here. A server
that lags further behind needs a longer --hold.`);
  const faults = [
    ...(lost.length > 0 ? [`${lost.length} packets are missing, first ${lost[0]}`] : []),
    ...(unknown > 0 ? [`${unknown} packets were recorded that nobody sent`] : []),
    ...(outOfOrderWithinConnection > 0 ? ["packets came out of order"] : []),
    ...(sendCode !== 0 ? [`sendq send ended with exit code ${sendCode}`] : []),
  ];
  for (const fault of faults) console.error(`\nFAILED: ${fault}`);
  return faults.length === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
