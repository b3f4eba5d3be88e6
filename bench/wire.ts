// deno-lint-ignore-file no-console
/**
 * One wire without a queue, in a process of its own: writes as fast as it can, or so many
 * bytes a second. Prints one line of JSON.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import { systemClock } from "../src/base/clock.ts";
import { tcpDialer } from "../src/kernel/dialer.ts";
import { tlsDialer } from "../src/tls/dialer.ts";
import type { EngineFactory } from "../src/tls/engine.ts";
import { opensslEngines } from "../src/tls/openssl/engine.ts";
import type { Wire } from "../src/base/ports.ts";

/** What to do. */
export interface WireOptions {
  readonly port: number;
  /** TCP; `node:tls`; OpenSSL that asks for nothing; OpenSSL as `confirm: "reader"` has it. */
  readonly kind: "tcp" | "node:tls" | "openssl" | "reader";
  readonly writeBytes: number;
  /** Between two writes. @default as soon as the one before is done */
  readonly everyMs?: number;
  /** The authority that is trusted, in PEM. */
  readonly ca: string;
  readonly seconds: number;
}

/** What came of it. */
export interface WireReport {
  readonly megabytesPerSecond: number;
  readonly cpuMsPerSecond: number;
  readonly cpuMsPerMegabyte: number;
  /** How much was written and not read yet, as far as known, at the most. */
  readonly mostUnreadBytes: number | undefined;
}

/** The library alone: nobody asks it for anything. */
function silently(engineOf: EngineFactory): EngineFactory {
  return (options, events) => {
    const engine = engineOf(options, events);
    return {
      handshake: () => engine.handshake(),
      get authorized() {
        return engine.authorized;
      },
      get sending() {
        return engine.sending;
      },
      feed: (ciphertext) => engine.feed(ciphertext),
      write: (plaintext) => engine.write(plaintext),
      close: () => engine.close(),
      destroy: () => engine.destroy(),
    };
  };
}

async function dial({ kind, port, ca }: WireOptions): Promise<Wire> {
  const tcp = { hostname: "127.0.0.1", port };
  const signal = AbortSignal.timeout(20_000);
  if (kind === "tcp") return await tcpDialer(tcp).dial(signal);
  const engines = kind === "node:tls" ? undefined : opensslEngines();
  const dialer = await tlsDialer({
    tcp,
    tls: { ca },
    clock: systemClock,
    tell: () => {},
    ...(engines === undefined
      ? {}
      : { readingEngineOf: kind === "reader" ? engines : silently(engines) }),
  });
  return await dialer.dial(signal);
}

async function run(options: WireOptions): Promise<WireReport> {
  const { writeBytes, everyMs, seconds } = options;
  const wire = await dial(options);
  const chunk = new Uint8Array(writeBytes).fill(0x41);
  let writtenBytes = 0, mostUnreadBytes: number | undefined;
  // Its own answers have to be read.
  const reading = (async () => {
    const buffer = new Uint8Array(65_536);
    while (await wire.read(buffer) !== null);
  })().catch(() => {});
  const once = async () => {
    for (let at = 0; at < chunk.length;) at += await wire.write(chunk.subarray(at));
    writtenBytes += chunk.length;
    const { readBytes } = wire.sample();
    if (readBytes !== undefined) {
      mostUnreadBytes = Math.max(mostUnreadBytes ?? 0, writtenBytes + 1 - readBytes);
    }
  };
  const forMs = async (ms: number) => {
    const endMs = performance.now() + ms;
    while (performance.now() < endMs) {
      await once();
      if (everyMs !== undefined) await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  };
  await forMs(500);
  const before = { atMs: performance.now(), writtenBytes, cpu: cpuUsage() };
  await forMs(seconds * 1000);
  const tookMs = performance.now() - before.atMs;
  const { user, system } = cpuUsage(before.cpu);
  const megabytes = (writtenBytes - before.writtenBytes) / 1e6;
  wire.abort();
  await reading;
  return {
    megabytesPerSecond: megabytes / tookMs * 1000,
    cpuMsPerSecond: (user + system) / tookMs,
    cpuMsPerMegabyte: (user + system) / 1000 / megabytes,
    mostUnreadBytes,
  };
}

if (import.meta.main) {
  console.log(JSON.stringify(await run(JSON.parse(Deno.args[0] ?? "{}"))));
  Deno.exit();
}
