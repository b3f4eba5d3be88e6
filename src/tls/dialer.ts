/** Dials TCP, then speaks TLS over it. Loaded only by whoever has a `tls://` remote. */

import type { X509Certificate } from "node:crypto";
import { KernelCallError, messageOf, OptionError, WireError, wireError } from "../base/errors.ts";
import { abortQuietly } from "../base/own_end.ts";
import type { Clock, Dialer } from "../base/ports.ts";
import { formatRemote } from "../base/remote.ts";
import { onAbort, unlessAborted } from "../base/waits.ts";
import { type TcpDialer, tcpDialer, type TcpDialerOptions } from "../kernel/dialer.ts";
import type { TcpWire } from "../kernel/tcp_wire.ts";
import { assertUsableBy, checkTlsOptions, refusalOf } from "./certificates.ts";
import { type EngineFactory, type EngineOptions, nameOnCertificates } from "./engine.ts";
import { nodeEngine } from "./node_engine.ts";
import type { TlsOptions, TlsSource } from "./options.ts";
import { TlsWire } from "./tls_wire.ts";

const OPTIONS_MS = 10_000;
/** How long it may take to fetch the certificate of a server that was refused. */
const LOOK_MS = 3000;

/** A {@linkcode Dialer} whose wires are {@linkcode TlsWire}s. */
export interface TlsDialer extends Dialer {
  dial(...how: Parameters<Dialer["dial"]>): Promise<TlsWire>;
}

export interface TlsDialerOptions {
  readonly tcp: TcpDialerOptions;
  /**
   * What connects to there.
   *
   * @default {undefined} a `tcpDialer` of `tcp`
   */
  readonly inner?: TcpDialer;
  readonly tls: TlsSource;
  /**
   * How long `tls` may take where it is a function, in milliseconds.
   *
   * @default {10_000}
   */
  readonly optionsTimeoutMs?: number;
  /** Ends the first wait for it. */
  readonly signal?: AbortSignal | undefined;
  /**
   * A TLS library that sends KeyUpdates, in the place of the runtime's. With a server that does
   * not answer them, or that speaks no TLS 1.3, the attempt fails.
   */
  readonly readingEngineOf?: EngineFactory;
  readonly clock: Clock;
  /** Told what a person may want to know of a connection that works. */
  readonly tell: (words: string) => void;
}

/**
 * A dialer for one TLS server. Options, certificates and keys are checked before
 * anything is connected, and again for each connection.
 *
 * @throws {OptionError} An option, a certificate or a key cannot be used.
 */
export async function tlsDialer(
  { tcp, inner: given, tls, optionsTimeoutMs = OPTIONS_MS, signal, readingEngineOf, clock, tell }:
    TlsDialerOptions,
): Promise<TlsDialer> {
  const engineOf = readingEngineOf ?? nodeEngine;
  const present = async (signal: AbortSignal | undefined) => {
    const options = typeof tls === "function"
      ? await givenWithin(tls, optionsTimeoutMs, clock, signal)
      : tls;
    const checked = checkTlsOptions(options);
    assertUsableBy(readingEngineOf !== undefined, checked);
    return checked;
  };
  const checked = await present(signal);
  const inner = given ?? tcpDialer(tcp);
  return {
    remote: formatRemote({ hostname: tcp.hostname, port: tcp.port, scheme: "tls" }),
    async dial(signal, onLookedUp, onHandshake) {
      const options = typeof tls === "function"
        ? await present(signal).catch((error) => {
          // What is wrong with new certificates may be right at the next attempt.
          throw unusable(error);
        })
        : checked;
      const wire = await inner.dial(signal, onLookedUp, onHandshake);
      const { handshakeTimeoutMs, acceptMs, fingerprints } = options;
      onHandshake?.(handshakeTimeoutMs + acceptMs + LOOK_MS);
      const engine: EngineOptions = {
        ...options,
        expectedName: nameOnCertificates(options.serverName ?? tcp.hostname),
        verified: fingerprints === undefined,
      };
      const overTls = started(wire, engineOf, engine, clock);
      const forget = onAbort(signal, () => abortQuietly(overTls));
      if (signal.aborted) abortQuietly(overTls);
      try {
        await overTls.handshake();
      } catch (error) {
        abortQuietly(overTls);
        signal.throwIfAborted();
        if (readingEngineOf !== undefined) assertNotOfVersion(error);
        const look = lookWithin(signal, clock, onHandshake);
        try {
          throw await inWords(
            error,
            engineOf,
            engine,
            clock,
            look.signal,
            () => inner.dial(look.signal, undefined, look.longer),
          );
        } finally {
          look.over();
        }
      } finally {
        forget();
      }
      if (!overTls.accepted) {
        tell(
          `${tcp.hostname} has said nothing within ${acceptMs} ms of the TLS handshake, so it ` +
            `may still refuse: until it says anything, what it acknowledges is held for ` +
            `${overTls.minHoldMs / 1000} s at least`,
        );
      }
      return overTls;
    },
  };
}

/** What a function of the user's gives: it may hang, like anything else. */
async function givenWithin(
  tls: Exclude<TlsSource, TlsOptions>,
  withinMs: number,
  clock: Clock,
  signal: AbortSignal | undefined,
): Promise<TlsOptions> {
  signal?.throwIfAborted();
  const late = Promise.withResolvers<never>();
  const cancel = clock.setTimer(withinMs, () => {
    late.reject(new OptionError("tls", null, `must be given within ${withinMs / 1000} s`));
  });
  try {
    return await unlessAborted(Promise.race([tls(), late.promise]), signal);
  } finally {
    cancel();
  }
}

/** @throws {WireError} The handshake has failed for want of TLS 1.3, or may have. */
function assertNotOfVersion(error: unknown): void {
  if (!(error instanceof WireError)) return;
  const { code } = error;
  const words = code === "TLS_ALERT_PROTOCOL_VERSION"
    ? "the server speaks no TLS 1.3"
    : code === "TLS_TRUNCATED" // Some hang up without a word.
    ? "the server ended the connection during the TLS handshake: it may speak no TLS 1.3"
    : undefined;
  if (words === undefined) return;
  throw new WireError(
    code,
    `${words}, and what is older has no KeyUpdate that would tell what its program has read ` +
      `(${code}): confirm "kernel" does without that`,
    { cause: error },
  );
}

function started(
  tcp: TcpWire,
  engineOf: EngineFactory,
  options: EngineOptions,
  clock: Clock,
): TlsWire {
  try {
    return new TlsWire(tcp, engineOf, options, clock);
  } catch (error) {
    abortQuietly(tcp);
    if (error instanceof WireError || error instanceof KernelCallError) throw error;
    throw unusable(error);
  }
}

/** What was checked may still be refused by the TLS library: a key that it calls too small. */
function unusable(error: unknown): WireError {
  return wireError(
    "TLS_OPTIONS",
    `the options of TLS cannot be used: ${messageOf(error)}`,
    error,
  );
}

/**
 * The time of a look at a certificate: it waits for a second connection, which a firewall may
 * drop, or a server that serves one at a time, and the first refusal is known already.
 */
function lookWithin(
  signal: AbortSignal,
  clock: Clock,
  onHandshake: ((withinMs: number) => void) | undefined,
): { readonly signal: AbortSignal; longer(withinMs: number): void; over(): void } {
  const controller = new AbortController();
  const end = () => controller.abort();
  const forget = onAbort(signal, end);
  let cancel = clock.setTimer(LOOK_MS, end);
  return {
    signal: controller.signal,
    // A handshake on the way there has a limit of its own.
    longer(withinMs) {
      cancel();
      cancel = clock.setTimer(withinMs + LOOK_MS, end);
      onHandshake?.(withinMs + LOOK_MS);
    },
    over() {
      cancel();
      forget();
    },
  };
}

/**
 * Why a certificate was refused. The TLS library does not say, and gives no certificate
 * with its refusal: it is fetched over a second connection, which carries nothing.
 */
async function inWords(
  error: unknown,
  engineOf: EngineFactory,
  options: EngineOptions,
  clock: Clock,
  signal: AbortSignal,
  dial: () => Promise<TcpWire>,
): Promise<unknown> {
  if (!(error instanceof WireError) || !isRefusalOfOurs(error) || !options.verified) return error;
  const { cert: _, key: __, ...nobody } = options;
  let chain: readonly X509Certificate[];
  try {
    const look = started(
      await dial(),
      engineOf,
      { ...nobody, verified: false, handshakeTimeoutMs: LOOK_MS },
      clock,
    );
    const end = () => void abortQuietly(look);
    const forget = onAbort(signal, end);
    if (signal.aborted) end();
    try {
      await look.agreed();
      chain = look.chain;
    } finally {
      forget();
      end();
    }
  } catch (failure) {
    if (failure instanceof WireError && failure.code === "TLS_KEY_NOT_PROVEN") return failure;
    return error; // The first refusal says less, and is true.
  }
  return refusalOf(chain, options, clock.wallMs(), error);
}

/** By the names that the TLS library has for a certificate that it does not take. */
function isRefusalOfOurs({ code }: WireError): boolean {
  return /CERT|VERIFY|ALTNAME|ISSUER|CRL/.test(code) && !code.startsWith("TLS_");
}
