/**
 * A sender over TLS beside one without it, in the same round: rates, and CPU for each MB.
 *
 * @module
 */

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
    // Without syncs: the disk's rate is not what is asked here. In a Worker, and with few
    // enqueuers, so that the thread of the network has time for it.
    const options = {
      packetBytes,
      enqueuers: packetBytes === 100 ? 100 : 4,
      queueOptions: { durability: "process-crash", commitIn: "worker" },
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
}
