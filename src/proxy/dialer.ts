/**
 * Dials a server through a proxy. Loaded only by whoever has one.
 *
 * To the kernel the connection is one to the proxy: it is the proxy's kernel that
 * acknowledges, and the counters are those of the way there.
 */

import { acknowledged } from "../base/acknowledged.ts";
import { OptionError, WireError, wireError } from "../base/errors.ts";
import { abortQuietly } from "../base/own_end.ts";
import type { Clock } from "../base/ports.ts";
import { formatRemote } from "../base/remote.ts";
import { formatProxy, type ProxyServer } from "../base/via.ts";
import { onAbort, rest } from "../base/waits.ts";
import { type TcpDialer, tcpDialer, type TcpDialerOptions } from "../kernel/dialer.ts";
import type { TcpWire } from "../kernel/tcp_wire.ts";
import { ProxyHandshake, type ProxyTarget, type Speak } from "./handshake.ts";
import { speakHttpConnect } from "./http_connect.ts";
import { speakSocks5 } from "./socks5.ts";

const SPEAKERS: { readonly [scheme in ProxyServer["scheme"]]: Speak } = {
  socks5: speakSocks5,
  http: speakHttpConnect,
};

export interface ProxyDialerOptions {
  readonly proxy: ProxyServer;
  readonly remote: ProxyTarget;
  /** How the proxy is connected to. */
  readonly tcp: Omit<TcpDialerOptions, "hostname" | "port">;
  readonly clock: Clock;
}

/**
 * A dialer for one TCP server behind a proxy.
 *
 * @throws {OptionError} The server cannot be named to a proxy.
 */
export function proxyDialer({ proxy, remote, tcp, clock }: ProxyDialerOptions): TcpDialer {
  if (remote.hostname.includes("%")) {
    throw new OptionError(
      "via.url",
      null,
      `cannot be combined with ${formatRemote(remote)}: its zone is an interface of this host, ` +
        `which a proxy does not know`,
    );
  }
  // A byte says how long it is (RFC 1928, 5).
  if (proxy.scheme === "socks5" && remote.hostname.length > 255) {
    throw new OptionError(
      "remote",
      remote.hostname,
      "must have a name of 255 bytes at most for a SOCKS5 proxy",
    );
  }
  const { hostname, port, handshakeTimeoutMs, credentials } = proxy;
  const inner = tcpDialer({ ...tcp, hostname, port });
  const name = `the proxy ${formatProxy(proxy)}`;
  return {
    remote: formatRemote({ hostname: remote.hostname, port: remote.port }),
    async dial(signal, onLookedUp, onHandshake) {
      let wire: TcpWire;
      try {
        wire = await inner.dial(signal, onLookedUp);
      } catch (error) {
        throw named(error, name);
      }
      onHandshake?.(handshakeTimeoutMs);
      let isLate = false;
      const end = () => abortQuietly(wire);
      const cancel = clock.setTimer(handshakeTimeoutMs, () => {
        isLate = true;
        end();
      });
      const forget = onAbort(signal, end);
      if (signal.aborted) end();
      try {
        const { bytesAcked: baseBytes } = wire.sample();
        const handshake = new ProxyHandshake(wire);
        await SPEAKERS[proxy.scheme](handshake, remote, credentials);
        // It may answer before it has read, and packets may not follow before that.
        const { writtenBytes } = handshake;
        const said = { baseBytes, writtenBytes, of: "the handshake", doing: "it was spoken to" };
        await acknowledged(wire, said, clock, (ms) => rest(clock, ms));
        return wire;
      } catch (error) {
        end();
        signal.throwIfAborted();
        if (isLate) {
          throw wireError(
            "ETIMEDOUT",
            `${name}: within ${handshakeTimeoutMs / 1000} s it did not say that ` +
              `${formatRemote(remote)} is connected`,
          );
        }
        throw named(error, name);
      } finally {
        cancel();
        forget();
      }
    },
  };
}

/** The same failure, and whose it is. */
function named(error: unknown, name: string): unknown {
  if (!(error instanceof WireError)) return error;
  const code = /\([A-Z_]+\)$/.test(error.message) ? "" : ` (${error.code})`;
  return new WireError(error.code, `${name}: ${error.message}${code}`, { cause: error });
}
