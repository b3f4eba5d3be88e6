/**
 * SOCKS5: RFC 1928, and RFC 1929 for credentials. Three questions and answers whose lengths
 * are known, so that they are read exactly.
 */

import { WireError } from "../base/errors.ts";
import { formatHostPort } from "../base/remote.ts";
import type { ProxyCredentials } from "../base/via.ts";
import { isIpv4, parseIpAddress } from "../kernel/ip_address.ts";
import type { ProxyHandshake, ProxyTarget } from "./handshake.ts";

const VERSION = 5;
const CREDENTIALS_VERSION = 1;
const CONNECT = 1;
const GRANTED = 0;

const Method = { NOTHING: 0, CREDENTIALS: 2, NONE_ACCEPTABLE: 0xff } as const;
const AddressType = { IPV4: 1, NAME: 3, IPV6: 4 } as const;

/** Why it was not connected, by the number of the reply. */
const REPLIES: { readonly [reply: number]: string } = {
  1: "general failure",
  2: "not allowed by its rules",
  3: "network unreachable",
  4: "host unreachable",
  5: "connection refused",
  6: "time to live expired",
  7: "it does not know the command",
  8: "it does not know the kind of address",
};

/**
 * Speaks SOCKS5 to a proxy; see `Speak`.
 *
 * @throws {WireError} It refuses, or does not speak SOCKS5.
 */
export async function speakSocks5(
  handshake: ProxyHandshake,
  { hostname, port }: ProxyTarget,
  credentials: ProxyCredentials | undefined,
): Promise<void> {
  const method = await chooseMethod(handshake, credentials !== undefined);
  if (method === Method.CREDENTIALS && credentials !== undefined) {
    await showCredentials(handshake, credentials);
  }
  await handshake.write(
    Uint8Array.of(VERSION, CONNECT, 0, ...addressOf(hostname), port >> 8, port & 0xff),
  );
  const [version, reply = 0xff] = await handshake.read(2);
  assertVersion(version);
  if (reply !== GRANTED) {
    const words = REPLIES[reply] ?? "for a reason that SOCKS5 has no words for";
    const to = formatHostPort(hostname, port);
    throw new WireError("PROXY_REFUSED", `it did not connect to ${to}: ${words} (reply ${reply})`);
  }
  // The address that it connects from: of no use, and ours to read.
  const [, type] = await handshake.read(2);
  const addressBytes = type === AddressType.IPV4
    ? 4
    : type === AddressType.IPV6
    ? 16
    : type === AddressType.NAME
    ? (await handshake.read(1))[0] ?? 0
    : undefined;
  if (addressBytes === undefined) {
    throw new WireError("PROXY_PROTOCOL", `it answered with an address of unknown type ${type}`);
  }
  await handshake.read(addressBytes + 2);
}

async function chooseMethod(handshake: ProxyHandshake, hasCredentials: boolean): Promise<number> {
  const methods = hasCredentials ? [Method.NOTHING, Method.CREDENTIALS] : [Method.NOTHING];
  await handshake.write(Uint8Array.of(VERSION, methods.length, ...methods));
  const [version, method] = await handshake.read(2);
  assertVersion(version);
  if (method === Method.NONE_ACCEPTABLE) {
    throw new WireError(
      "PROXY_AUTH",
      hasCredentials
        ? "it takes neither user and password nor a client without"
        : "it wants credentials, or does not know this host: give it USER:PASSWORD",
    );
  }
  const chosen = methods.find((offered) => offered === method);
  if (chosen !== undefined) return chosen;
  throw new WireError("PROXY_PROTOCOL", `it chose method ${method}, which was not offered`);
}

async function showCredentials(
  handshake: ProxyHandshake,
  { username, password }: ProxyCredentials,
): Promise<void> {
  const user = new TextEncoder().encode(username);
  const secret = new TextEncoder().encode(password);
  await handshake.write(
    Uint8Array.of(CREDENTIALS_VERSION, user.length, ...user, secret.length, ...secret),
  );
  const [version, status] = await handshake.read(2);
  if (version !== CREDENTIALS_VERSION) {
    throw new WireError("PROXY_PROTOCOL", `it answered credentials with version ${version}`);
  }
  if (status !== GRANTED) {
    throw new WireError("PROXY_AUTH", "it does not take the user and password");
  }
}

/** A name goes as it is: the proxy looks it up. */
function addressOf(hostname: string): number[] {
  const address = parseIpAddress(hostname);
  if (address !== undefined) {
    return isIpv4(address)
      ? [AddressType.IPV4, ...address.subarray(12)]
      : [AddressType.IPV6, ...address];
  }
  const name = new TextEncoder().encode(hostname);
  return [AddressType.NAME, name.length, ...name];
}

function assertVersion(version: number | undefined): void {
  if (version === VERSION) return;
  throw new WireError(
    "PROXY_PROTOCOL",
    `it does not speak SOCKS5: its answer begins with byte ${version}`,
  );
}
