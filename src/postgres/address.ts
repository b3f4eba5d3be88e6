/** Where a queue on PostgreSQL lies, as one URL says it. */

import { OptionError } from "../base/errors.ts";
import { formatHostPort } from "../base/remote.ts";

/**
 * What an acknowledged packet survives. The database is asked in each transaction whether
 * its settings mean as much.
 *
 * - `"machine-loss"`: the loss of the primary with its disk, because each commit waits until
 *   a standby has it on disk: `synchronous_standby_names` is not empty, `fsync` and
 *   `full_page_writes` are on
 * - `"power-loss"`: a power cut of the primary, but not the loss of its disk: `fsync` and
 *   `full_page_writes` are on, `synchronous_commit` is not off
 * - `"process-crash"`: whatever the database makes of it; nothing is asked
 *
 * @category Queue
 */
export type PostgresDurability = "machine-loss" | "power-loss" | "process-crash";

export const DURABILITIES: readonly PostgresDurability[] = [
  "machine-loss",
  "power-loss",
  "process-crash",
];

/**
 * What is done where the database promises less than is asked for: what was to be stored is
 * refused, or stored all the same and warned of.
 *
 * @category Queue
 */
export type Weaker = "refuse" | "warn";

export const WEAKER: readonly Weaker[] = ["refuse", "warn"];

export type SslMode = "disable" | "require" | "verify-full";

export interface QueueAddress {
  /** The servers; one of them is the primary. */
  readonly hosts: readonly { readonly hostname: string; readonly port: number }[];
  readonly database: string;
  readonly user: string;
  readonly password: string | undefined;
  readonly sslMode: SslMode;
  /** The queue's name; empty where the URL has none. */
  readonly name: string;
  /** `undefined`: the URL does not say it. */
  readonly durability: PostgresDurability | undefined;
  /** Likewise. */
  readonly weaker: Weaker | undefined;
}

const DEFAULT_PORT = 5432;
const PARTS =
  /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^@/?#]+)\/([^/?#]+)(?:\/([^/?#]+))?(?:\?(.*))?$/i;
const HOST = /^(\[[0-9a-fA-F:.]+\]|[^:[\]]+)(?::([0-9]{1,5}))?$/;
const SSL_MODES: readonly SslMode[] = ["disable", "require", "verify-full"];

/** Whether a queue's name is the address of one on PostgreSQL, and not a path. */
export function isQueueUrl(queue: string): boolean {
  return /^postgres(ql)?:\/\//i.test(queue);
}

/**
 * Takes a URL apart: `postgres://user:password@host:5432,other/database/name?sslmode=require`.
 *
 * @throws {OptionError} It is none.
 */
export function parseQueueUrl(url: string): QueueAddress {
  const fail = (rule: string) => new OptionError("url", withoutPassword(url), rule);
  const parts = PARTS.exec(url);
  if (parts === null) {
    throw fail("must be like postgres://user@host:5432/database/queue");
  }
  const [, login = "", hostList = "", database = "", name = "", query = ""] = parts;
  const colon = login.indexOf(":");
  const user = colon < 0 ? login : login.slice(0, colon);
  if (user === "") throw fail("must say who logs in: postgres://user@…");
  const hosts = hostList.split(",").map((text) => {
    const [, hostname = "", port] = HOST.exec(text) ?? [];
    const number = port === undefined ? DEFAULT_PORT : Number(port);
    if (hostname === "" || number < 1 || number > 65535) {
      throw fail(`has the host ${JSON.stringify(text)}, which is none`);
    }
    return { hostname: hostname.replace(/^\[|\]$/g, ""), port: number };
  });
  const given = new Map<string, string>();
  for (const [key, value] of new URLSearchParams(query)) {
    if (given.has(key)) throw fail(`says ${key} twice`);
    given.set(key, value);
  }
  const take = <T extends string>(key: string, values: readonly T[]): T | undefined => {
    const value = given.get(key);
    given.delete(key);
    if (value === undefined) return undefined;
    const known = values.find((one) => one === value);
    if (known === undefined) throw fail(`has a ${key} that is none of ${values.join(", ")}`);
    return known;
  };
  const sslMode = take("sslmode", SSL_MODES) ?? "disable";
  const durability = take("durability", DURABILITIES);
  const weaker = take("weaker", WEAKER);
  for (const key of given.keys()) {
    throw fail(`says ${key}, and knows sslmode, durability and weaker behind the question mark`);
  }
  const decode = (text: string): string => {
    try {
      return decodeURIComponent(text);
    } catch {
      throw fail("has a % that begins no character of UTF-8; for itself it is written %25");
    }
  };
  return {
    hosts,
    database: decode(database),
    user: decode(user),
    password: colon < 0 ? undefined : decode(login.slice(colon + 1)),
    sslMode,
    name: checkName(decode(name)),
    durability,
    weaker,
  };
}

/**
 * Checks a queue's name, or what stands for none.
 *
 * @throws {OptionError} No queue may be called so.
 */
export function checkName(name: string): string {
  if (name.length > 200 || /\p{Cc}/u.test(name)) {
    throw new OptionError("name", name, "must have 200 characters at most, all of them printable");
  }
  return name;
}

export function formatAddress({ hosts, database, user, name }: QueueAddress): string {
  const list = hosts.map(({ hostname, port }) => formatHostPort(hostname, port)).join(",");
  const path = [database, name].filter((part) => part !== "").map(encodeURIComponent).join("/");
  return `postgres://${encodeURIComponent(user)}@${list}/${path}`;
}

/** Also of what is no URL for a stray character, and where it stands as other programs take it. */
function withoutPassword(url: string): string {
  return url.replace(/:(?!\/\/).*@/s, ":…@").replace(/(password=)[^&]*/gi, "$1…");
}

/** RFC 3454, C.1.2: other spaces are the one of ASCII. */
const SPACES = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/gu;
/** RFC 3454, B.1: what nobody sees counts for nothing. */
const NOTHING = /[\u00ad\u034f\u1806\u180b-\u180d\u200c\u200d\u2060\ufe00-\ufe0f\ufeff]/gu;

/**
 * The spellings under which a server may know a password, the likeliest one first: for SCRAM it is
 * prepared before (RFC 4013, which the client library leaves out), unless it has characters for
 * which there is no rule. For MD5, and where somebody else checks it, it is what was typed.
 */
export function spellingsOf(password: string): readonly [likeliest: string, asTyped?: string] {
  const prepared = password.replace(SPACES, " ").replace(NOTHING, "").normalize("NFKC");
  return prepared === password ? [password] : [prepared, password];
}
