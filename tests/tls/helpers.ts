/**
 * Certificates, and servers that speak TLS.
 */

import assert from "node:assert/strict";
import type { Sender, SenderStatus } from "../../mod.ts";
import { systemClock } from "../../src/base/clock.ts";
import { messageOf } from "../../src/base/errors.ts";
import type { EngineFactory } from "../../src/tls/engine.ts";
import { opensslEngines } from "../../src/tls/openssl/engine.ts";
import type { TlsOptions } from "../../src/tls/options.ts";
import { tlsDialer } from "../../src/tls/dialer.ts";
import type { TlsWire } from "../../src/tls/tls_wire.ts";
import { lines } from "../support/packets.ts";
import { grantedLibc, patience } from "../kernel/helpers.ts";

/** The text of a file of `certificates/`: `"server.pem"`, `"client.key"`. */
export function pem(name: string): string {
  return Deno.readTextFileSync(fileOf(name));
}

/** Its path, for programs. */
export function fileOf(name: string): string {
  return new URL(`certificates/${name}`, import.meta.url).pathname;
}

/** The authority that has issued every certificate but `self` and `stranger`. */
export const AUTHORITY = { ca: pem("authority.pem") } as const;
/** A certificate of our own. */
export const CLIENT = { cert: pem("client.pem"), key: pem("client.key") } as const;

/** Every status, from now on. */
export function heard(sender: Sender): SenderStatus[] {
  const all: SenderStatus[] = [];
  (async () => {
    for await (const status of sender.status()) all.push(status);
  })();
  return all;
}

/** Whether these packets have all arrived, each at least once, in order but for repetitions. */
export function assertNoneLost(text: string, count: number): void {
  const found = new Set(text.split("\n"));
  const missing = lines(count).trimEnd().split("\n").filter((line) => !found.has(line));
  assert.deepEqual(missing, []);
}

/** Dials a server on loopback, as `localhost` by name. */
export async function dialTls(
  port: number,
  tls: TlsOptions = {},
  tell: (words: string) => void = () => {},
  readingEngineOf?: EngineFactory,
): Promise<TlsWire> {
  const dialer = await tlsDialer({
    tcp: { hostname: "127.0.0.1", port },
    tls: { ...(tls.fingerprints === undefined ? AUTHORITY : {}), ...tls },
    clock: systemClock,
    tell,
    ...(readingEngineOf === undefined ? {} : { readingEngineOf }),
  });
  return await dialer.dial(patience());
}

/** The same, so that it is known what the server's program has read. */
export async function dialReading(port: number, tls: TlsOptions = {}): Promise<TlsWire> {
  return await dialTls(port, tls, () => {}, opensslEngines());
}

/** Why OpenSSL's library cannot be used; `undefined`: it can. */
export function noLibssl(): string | undefined {
  if (grantedLibc() === undefined) return "needs --allow-ffi=<path of the C library>";
  try {
    opensslEngines();
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}
