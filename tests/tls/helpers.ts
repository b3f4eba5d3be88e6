/**
 * Certificates, and servers that speak TLS.
 */

import { systemClock } from "../../src/base/clock.ts";
import type { TlsOptions } from "../../src/tls/options.ts";
import { tlsDialer } from "../../src/tls/dialer.ts";
import type { TlsWire } from "../../src/tls/tls_wire.ts";
import { patience } from "../kernel/helpers.ts";

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

/** Dials a server on loopback, as `localhost` by name. */
export async function dialTls(
  port: number,
  tls: TlsOptions = {},
  tell: (words: string) => void = () => {},
): Promise<TlsWire> {
  const dialer = await tlsDialer({
    tcp: { hostname: "127.0.0.1", port },
    tls: { ...(tls.fingerprints === undefined ? AUTHORITY : {}), ...tls },
    clock: systemClock,
    tell,
  });
  return await dialer.dial(patience());
}
