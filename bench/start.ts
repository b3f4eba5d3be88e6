/**
 * What a script pays for one packet, in a process that begins and ends with it: beside an
 * empty program in the same runtime, and beside a line into the socket of a relay that
 * runs already.
 *
 * @module
 */

import { connectionsOf } from "../lab/connections_of.ts";
import type { Reading, Round } from "./readings.ts";
import { median } from "./statistics.ts";

/** Of so many runs the median counts. */
const RUNS = 7;

/** How a sendq command is run, as the README says. */
function sendq(root: URL, args: readonly string[]): string[] {
  const permissions = ["--allow-net", "--allow-read", "--allow-write", "--allow-ffi"];
  const program = new URL("src/cli/main.ts", root).pathname;
  return [Deno.execPath(), "run", "--quiet", "--no-prompt", ...permissions, program, ...args];
}

/** Seconds by the clock and on the processor of a command that ends by itself. */
async function cost(command: readonly string[]): Promise<{ wall: number; cpu: number }> {
  const { success, stderr } = await new Deno.Command("bash", {
    args: ["-c", `TIMEFORMAT='%R %U %S'; time "$@" >&2`, "bash", ...command],
    stdout: "null",
    stderr: "piped",
  }).output();
  const words = new TextDecoder().decode(stderr).trimEnd();
  const figures = words.split("\n").at(-1)?.split(" ").map(Number) ?? [];
  const [wall = NaN, user = NaN, system = NaN] = figures;
  if (!success || Number.isNaN(wall)) throw new Error(`${command.join(" ")} failed: ${words}`);
  return { wall, cpu: user + system };
}

async function medianCost(
  commandOf: (run: number) => readonly string[],
): Promise<{ wall: number; cpu: number }> {
  const costs: { wall: number; cpu: number }[] = [];
  for (let i = 0; i < RUNS; i++) costs.push(await cost(commandOf(i)));
  return { wall: median(costs.map(({ wall }) => wall)), cpu: median(costs.map(({ cpu }) => cpu)) };
}

/** From the start of `sendq send` to its connection, in seconds. */
async function untilConnected(root: URL, directory: string): Promise<number> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const arrivals = connectionsOf(listener)[Symbol.asyncIterator]();
  const queue = `${directory}/send.db`;
  const remote = `tcp://127.0.0.1:${listener.addr.port}`;
  const seconds: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    await cost(sendq(root, ["enqueue", "--queue", queue, "one"]));
    const [program = "", ...args] = sendq(root, ["send", remote, "--queue", queue, "--quiet"]);
    const startMs = performance.now();
    const child = new Deno.Command(program, {
      args,
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    const { value: connection } = await arrivals.next();
    seconds.push((performance.now() - startMs) / 1000);
    for await (const _chunk of connection?.readable ?? []) { /* until it ends */ }
    const { success } = await child.status;
    if (!success) throw new Error("sendq send failed");
  }
  return median(seconds);
}

/** A relay, and a line into its socket by a shell: nothing of the runtime is started. */
async function intoRelay(root: URL, directory: string): Promise<{ wall: number; cpu: number }> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [program = "", ...args] = sendq(root, [
    ...["relay", "--listen", "tcp://127.0.0.1:0"],
    ...["--to", `tcp://127.0.0.1:${listener.addr.port}`],
    ...["--queue", `${directory}/relay.db`],
  ]);
  const relay = new Deno.Command(program, { args, stdout: "null", stderr: "piped" }).spawn();
  try {
    const port = await portIn(relay.stderr);
    return await medianCost(() => ["bash", "-c", `echo one > /dev/tcp/127.0.0.1/${port}`]);
  } finally {
    relay.kill("SIGKILL");
    await relay.status;
  }
}

/** The port that the relay says it listens on. */
async function portIn(stderr: ReadableStream<Uint8Array>): Promise<string> {
  let words = "";
  const reader = stderr.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    words += value ?? "";
    const port = /listening on [^\n]*:(\d+)/.exec(words)?.[1];
    if (port !== undefined) return port;
    if (done) throw new Error(`the relay does not say where it listens: ${words}`);
  }
}

/** What a process of its own costs for one packet. */
export async function* start({ baseline }: Round): AsyncGenerator<Reading> {
  const directory = Deno.makeTempDirSync({ prefix: "sendq-bench-" });
  const root = new URL("../", import.meta.url);
  try {
    const empty = `${directory}/empty.ts`;
    Deno.writeTextFileSync(empty, "");
    const enqueue = (at: URL, name: string) =>
      medianCost(() => sendq(at, ["enqueue", "--queue", `${directory}/${name}.db`, "one"]));
    await enqueue(root, "first"); // The runtime's cache of compiled code.
    const runtime = await medianCost(() => [Deno.execPath(), "run", "--quiet", empty]);
    const ours = await enqueue(root, "ours");
    const against = (value: number) => ({ name: "an empty program", value });
    const unit = "s";
    yield { name: "an empty program", unit, value: runtime.wall };
    yield {
      ...{ name: "sendq enqueue of one packet", unit },
      ...{ value: ours.wall, against: against(runtime.wall) },
    };
    yield {
      ...{ name: "sendq enqueue of one packet: CPU", unit },
      ...{ value: ours.cpu, against: against(runtime.cpu) },
    };
    if (baseline !== undefined) {
      const at = new URL(`file://${baseline}/`);
      await enqueue(at, "first-older");
      const older = await enqueue(at, "older");
      yield {
        ...{ name: "sendq enqueue of one packet: CPU, beside the older version", unit },
        ...{ value: ours.cpu, against: { name: "the older version", value: older.cpu } },
        target: "≤ 0.5",
      };
    }
    const connected = await untilConnected(root, directory);
    yield {
      ...{ name: "sendq send until it is connected", unit },
      ...{ value: connected, against: against(runtime.wall) },
    };
    const relay = await intoRelay(root, directory);
    yield {
      ...{ name: "a line into the socket of a relay", unit },
      ...{ value: relay.wall, against: against(runtime.wall) },
    };
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}
