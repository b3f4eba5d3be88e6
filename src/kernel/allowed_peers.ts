/** Who may connect to us: addresses and networks. */

import { isIpv4, parseIpAddress } from "./ip_address.ts";

interface Network {
  readonly address: Uint8Array;
  readonly bits: number;
}

/** A list of addresses and networks; without any, everybody is on it. */
export class AllowedPeers {
  readonly #networks: readonly Network[] | undefined;

  /**
   * @param texts `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`; undefined: everybody.
   * @throws {TypeError} One is no such text.
   */
  constructor(texts: readonly string[] | undefined) {
    this.#networks = texts?.map(networkOf);
  }

  /** Whether an address is on the list. */
  has(hostname: string): boolean {
    if (this.#networks === undefined) return true;
    // A link-local address comes with its zone.
    const address = parseIpAddress(hostname.split("%", 1)[0] ?? "");
    return address !== undefined &&
      this.#networks.some((network) => isWithin(address, network));
  }
}

function networkOf(text: string): Network {
  const [host = "", length, ...more] = text.split("/");
  const address = parseIpAddress(host);
  if (address === undefined || more.length > 0 || (length !== undefined && !/^\d+$/.test(length))) {
    throw new TypeError(`"${text}" is no address and no network, such as 192.0.2.7 or 10.0.0.0/8`);
  }
  // Both kinds have 16 bytes here: IPv4 stands in the last four.
  const before = isIpv4(address) && !host.includes(":") ? 96 : 0;
  const bits = before + (length === undefined ? 128 - before : Number(length));
  if (bits > 128) throw new TypeError(`"${text}" has more bits than an address`);
  return { address, bits };
}

function isWithin(address: Uint8Array, network: Network): boolean {
  return address.every((byte, at) => {
    const shift = 8 - Math.min(8, Math.max(0, network.bits - 8 * at));
    return byte >> shift === (network.address[at] ?? 0) >> shift;
  });
}
