/**
 * A TCP client as a program, to be run inside a network namespace. It takes
 * commands, one a line, and answers each with one line of JSON.
 *
 * ```sh
 * deno run --allow-net tests/support/pinger.ts HOST PORT
 * ```
 *
 * | command | effect | answer |
 * |---|---|---|
 * | `connect MS` | connects anew, within MS milliseconds; keeps the old connection open | `{ok, ms}` |
 * | `ping MS` | writes a numbered line and waits for any answer | `{ok, ms}` |
 * | `write N` | writes N bytes in lines of 100, without waiting for answers | `{ok, ms}` |
 * | `ended MS` | waits until the server's FIN or an error is read | `{ok, ms}`, error `"eof"` for FIN |
 * | `datagrams N` | sends N UDP datagrams to the same port | `{ok, ms}` |
 *
 * `ok: false` comes with `error`: an errno's name, `"os error N"`, `"timeout"` or `"eof"`.
 *
 * @module
 */

import { createSocket } from "node:dgram";

/** What the pinger answers. */
export interface PingerAnswer {
  /** Whether the command succeeded. */
  readonly ok: boolean;
  /** How long it took, in milliseconds. */
  readonly ms: number;
  /** Why not. */
  readonly error?: string;
}

const [hostname = "", port = ""] = Deno.args;
const kept: Deno.Conn[] = [];
let connection: Deno.Conn | undefined;
/** The one read under way; kept when a ping gives up waiting for it. */
let reading: Promise<number | null> | undefined;
let pings = 0;

function current(): Deno.Conn {
  if (connection === undefined) throw new Error("not connected");
  return connection;
}

function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  const { promise: timeout, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("timeout")), ms);
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

async function read(ms: number): Promise<void> {
  reading ??= current().read(new Uint8Array(65536));
  // A read that outlives its ping fails later; the next ping will tell.
  reading.catch(() => {});
  const n = await within(ms, reading).catch((error) => {
    if (!(error instanceof Error && error.message === "timeout")) reading = undefined;
    throw error;
  });
  reading = undefined;
  if (n === null) throw new Error("eof");
}

async function carryOut(verb: string, n: number): Promise<void> {
  switch (verb) {
    case "connect": {
      const options = { hostname, port: Number(port), signal: AbortSignal.timeout(n) };
      connection = await Deno.connect(options).catch((error) => {
        throw options.signal.aborted ? new Error("timeout") : error;
      });
      kept.push(connection);
      reading = undefined;
      return;
    }
    case "ping":
      await current().write(new TextEncoder().encode(`ping ${++pings}\n`));
      return await read(n);
    case "write": {
      const bytes = new Uint8Array(n).map((_, i) => i % 100 === 99 ? 10 : 120);
      for (let at = 0; at < n;) at += await current().write(bytes.subarray(at));
      return;
    }
    case "ended":
      while (true) await read(n);
      // falls through: never, the loop ends by throwing
    case "datagrams": {
      const socket = createSocket("udp4");
      for (let i = 0; i < n; i++) {
        const { promise, resolve } = Promise.withResolvers<void>();
        socket.send("x", Number(port), hostname, () => resolve());
        await promise;
      }
      socket.close();
      return;
    }
    default:
      throw new Error(`unknown command ${verb}`);
  }
}

function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if ("code" in error && typeof error.code === "string") return error.code;
  // Deno names the common errnos only.
  return /os error \d+/.exec(error.message)?.[0] ?? error.message;
}

async function answer(line: string): Promise<PingerAnswer> {
  const [verb = "", argument] = line.split(" ");
  const start = performance.now();
  try {
    await carryOut(verb, Number(argument));
    return { ok: true, ms: performance.now() - start };
  } catch (error) {
    return { ok: false, ms: performance.now() - start, error: nameOf(error) };
  }
}

async function main(): Promise<void> {
  let rest = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const answered = JSON.stringify(await answer(line)) + "\n";
      Deno.stdout.writeSync(new TextEncoder().encode(answered));
    }
  }
  Deno.exit(0);
}

if (import.meta.main) await main();
