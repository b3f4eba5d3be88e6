/**
 * The way to a server: through which proxy, from which address of this host, and what
 * `--allow-net` has to name for it.
 */

import { OptionError } from "../base/errors.ts";
import type { HostRemote, Remote } from "../base/remote.ts";
import { proxyOf, type ProxyServer, type ViaOptions } from "../base/via.ts";
import { isAddress, mayReach, parseSource } from "../kernel/source.ts";
import type { Needs } from "../permissions/permissions.ts";

/** What may be said of the way; see `SenderOptions`. */
export interface WayOptions {
  readonly via?: string | ViaOptions;
  readonly source?: string;
}

/**
 * The proxy in its parts; undefined: none.
 *
 * @throws {OptionError} It is none, or the server cannot be behind it.
 */
export function viaOf(remote: Remote, { via }: WayOptions): ProxyServer | undefined {
  if (via === undefined) return undefined;
  for (const one of [remote, ...remote.standbys ?? []]) onNetwork("via.url", one);
  return proxyOf(via);
}

/**
 * Where connections go to, and where they come from.
 *
 * @throws {OptionError} A value is none, or they cannot be combined.
 */
export function wayNeeds(
  remote: Remote,
  options: WayOptions,
): Required<Pick<Needs, "remotes" | "sources" | "listens">> {
  const { source: given } = options;
  const { standbys = [], ...preferred } = remote;
  const proxy = viaOf(remote, options);
  if (given === undefined) {
    if (proxy !== undefined) {
      // Without what is secret.
      const { hostname, port } = proxy;
      return { remotes: [{ hostname, port }], sources: [], listens: [] };
    }
    if (!preferred.listen) {
      return { remotes: [preferred, ...standbys], sources: [], listens: [] };
    }
    const { hostname, port } = preferred;
    return { remotes: [], sources: [], listens: [{ transport: "tcp", hostname, port }] };
  }
  const servers = [preferred, ...standbys].map((one) => onNetwork("source", one));
  const source = parseSource(given);
  const ends: readonly Host[] = proxy === undefined ? servers : [proxy];
  const far = ends.find(({ hostname }) => !mayReach(source, hostname));
  if (far !== undefined) {
    throw new OptionError(
      "source",
      given,
      `must be of the same kind as ${far.hostname}: one is IPv4, the other is IPv6, or it has a zone`,
    );
  }
  // With a source a name is looked up for every port of the host.
  const remotes = ends.map(({ hostname, port }) => ({
    hostname,
    port: isAddress(hostname) ? port : 0,
  }));
  return { remotes, sources: [source], listens: [] };
}

type Host = Pick<HostRemote, "hostname" | "port">;

function onNetwork(option: "via.url" | "source", remote: Remote): HostRemote {
  if (!remote.listen && remote.scheme !== "unix") return remote;
  throw new OptionError(
    option,
    null,
    remote.listen
      ? "is for a server that we connect to: one of listen:// connects to us"
      : "is for a server on the network: one of unix: is on this host",
  );
}
