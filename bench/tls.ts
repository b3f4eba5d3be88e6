// deno-lint-ignore-file no-console
/**
 * A sender over TLS beside one without it, and beside syslog-ng over TLS, in the same
 * round: rates, and CPU for each MB.
 *
 * @module
 */

import { measurePeer, peerMissing, syslogNgOverTls } from "./peers.ts";
import { load, type Reading, type Round } from "./readings.ts";

const KIB = 1024;
const CERTIFICATES = new URL("../tests/tls/certificates/", import.meta.url);

function pem(name: string): string {
  return Deno.readTextFileSync(new URL(name, CERTIFICATES));
}

/** Each size without TLS and with it; the first one changes from round to round. */
export async function* tls(round: Round): AsyncGenerator<Reading> {
  const serverTls = { cert: pem("server.pem"), key: pem("server.key") };
  for (const packetBytes of [100, 4 * KIB, 64 * KIB]) {
    // Without syncs: the disk's rate is not what is asked here. With few enqueuers, so that
    // the network has time in the loop.
    const options = {
      packetBytes,
      enqueuers: packetBytes === 100 ? 100 : 4,
      queueOptions: { durability: "process-crash" },
    } as const;
    const plainly = () => load(options);
    const overTls = () => load({ ...options, tls: { ca: pem("authority.pem") } }, { serverTls });
    const first = round.number % 2 === 0 ? await plainly() : undefined;
    const secured = await overTls();
    const plain = first ?? await plainly();
    const size = packetBytes < KIB ? `${packetBytes} B` : `${packetBytes / KIB} KiB`;
    yield {
      name: `TLS 1.3, packets of ${size}`,
      unit: "packets/s",
      value: secured.packetsPerSecond,
      packetBytes,
      against: { name: "without TLS", value: plain.packetsPerSecond },
    };
    const perMegabyte = ({ cpuSecondsPerMillion }: typeof plain) =>
      cpuSecondsPerMillion * 1000 / packetBytes;
    yield {
      name: `TLS 1.3, packets of ${size}: CPU of the sender`,
      unit: "ms/MB",
      value: perMegabyte(secured),
      against: { name: "without TLS", value: perMegabyte(plain) },
    };
    yield {
      name: `TLS 1.3, packets of ${size}: memory of the process`,
      unit: "MiB",
      value: secured.rssBytes / KIB / KIB,
      against: { name: "without TLS", value: plain.rssBytes / KIB / KIB },
    };
  }
  yield* besideSyslogNg(round, serverTls);
}

/** Packets of 100 bytes, as many at a time as the peer has under way. */
async function* besideSyslogNg(
  round: Round,
  serverTls: { readonly cert: string; readonly key: string },
): AsyncGenerator<Reading> {
  const peer = syslogNgOverTls(new URL("authority.pem", CERTIFICATES).pathname);
  const missing = await peerMissing(peer, round.peers);
  if (missing !== undefined) {
    console.error(`${peer.name}: skipped, ${missing}`);
    return;
  }
  const options = {
    packetBytes: 100,
    enqueuers: 10_000,
    queueOptions: { durability: "process-crash" },
    tls: { ca: pem("authority.pem") },
  } as const;
  const theirs = () => measurePeer(peer, { root: round.peers, tls: serverTls });
  const first = round.number % 2 === 0 ? await theirs() : undefined;
  const ours = await load(options, { serverTls });
  const its = first ?? await theirs();
  const rows = [
    ["", "packets/s", ours.packetsPerSecond, its.packetsPerSecond],
    [": CPU a million packets", "s", ours.cpuSecondsPerMillion, its.cpuSecondsPerMillion],
    [": memory", "MiB", ours.rssBytes / KIB / KIB, its.rssBytes / KIB / KIB],
  ] as const;
  for (const [what, unit, value, theirValue] of rows) {
    const against = { name: "syslog-ng over TLS", value: theirValue };
    yield { name: `TLS, 10000 enqueuers, process-crash${what}`, unit, value, against };
  }
}
