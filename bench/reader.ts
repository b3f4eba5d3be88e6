/**
 * What it costs to ask the server's program how far it has read: a wire alone, over TLS by
 * OpenSSL with and without pings, beside `node:tls`, to `openssl s_server`.
 *
 * @module
 */

import { until } from "../tests/support/until.ts";
import { runProgram } from "./programs.ts";
import type { Reading, Round } from "./readings.ts";
import type { WireOptions, WireReport } from "./wire.ts";

const KIB = 1024;
const CERTIFICATES = new URL("../tests/tls/certificates/", import.meta.url).pathname;

/** Each way in turn, first the one and then the other from round to round. */
export async function* reader(round: Round): AsyncGenerator<Reading> {
  await using server = await discardingServer();
  const ca = Deno.readTextFileSync(`${CERTIFICATES}authority.pem`);
  const wire = (options: Pick<WireOptions, "kind" | "writeBytes" | "everyMs">) =>
    runProgram<WireReport>("wire.ts", { ...options, port: server.port, ca, seconds: 2 });
  const inTurn = async (
    how: Pick<WireOptions, "writeBytes" | "everyMs">,
    kinds: readonly WireOptions["kind"][],
  ) => {
    const reports = new Map<string, WireReport>();
    const order = round.number % 2 === 0 ? kinds : kinds.toReversed();
    for (const kind of order) reports.set(kind, await wire({ ...how, kind }));
    return (kind: WireOptions["kind"], figure: keyof WireReport) => ({
      name: kind,
      value: reports.get(kind)?.[figure] ?? NaN,
    });
  };
  const fast = await inTurn({ writeBytes: 64 * KIB }, ["node:tls", "openssl", "reader"]);
  for (
    const [kind, against] of [["openssl", "node:tls"], ["reader", "openssl"]] as const
  ) {
    yield {
      ...fast(kind, "megabytesPerSecond"),
      name: `${kind}, writes of 64 KiB`,
      unit: "MB/s",
      against: fast(against, "megabytesPerSecond"),
    };
    yield {
      ...fast(kind, "cpuMsPerMegabyte"),
      name: `${kind}, writes of 64 KiB: CPU`,
      unit: "ms/MB",
      against: fast(against, "cpuMsPerMegabyte"),
    };
  }
  const paced = await inTurn({ writeBytes: 500, everyMs: 5 }, ["openssl", "reader"]);
  yield {
    ...paced("reader", "cpuMsPerSecond"),
    name: "reader, 500 B each 5 ms: CPU",
    unit: "ms/s",
    against: paced("openssl", "cpuMsPerSecond"),
  };
}

/** Decrypts everything and keeps nothing. */
async function discardingServer(): Promise<AsyncDisposable & { readonly port: number }> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  const child = new Deno.Command("openssl", {
    args: [
      ...["s_server", "-accept", `127.0.0.1:${port}`, "-quiet"],
      ...["-cert", `${CERTIFICATES}server.pem`, "-key", `${CERTIFICATES}server.key`],
    ],
    // At the end of its input it would end.
    stdin: "piped",
    stdout: "null",
    stderr: "null",
  }).spawn();
  await until("openssl listens", async () => {
    try {
      (await Deno.connect({ hostname: "127.0.0.1", port })).close();
      return true;
    } catch {
      return false;
    }
  });
  return {
    port,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
      await child.stdin.close().catch(() => {});
    },
  };
}
