/**
 * Who may see the status pages.
 *
 * Without a token only this machine may: the server listens on a loopback
 * address, and a request must name it by an IP address or as localhost. That
 * second check is against DNS rebinding: a web page of a stranger can point its
 * own name at 127.0.0.1 and have the browser ask us, but the request then
 * carries that name in `Host`.
 *
 * With a token the request has to bring it, as `Authorization: Bearer TOKEN` or
 * as the cookie that the login form sets. A strange page has neither. Whoever
 * tries wrong ones is soon asked to wait, and what it tries is not looked at.
 */

import { createHash, timingSafeEqual } from "node:crypto";
import { isToken, TOKEN_RULE } from "../base/subpath_option_table.ts";
import type { Clock } from "../base/ports.ts";
import { isLoopback } from "../kernel/ip_address.ts";
import type { HttpRequest } from "./listener.ts";

/** Wrong tokens that one peer may try at once; one more each second. */
const FREE_GUESSES = 10;
const MS_PER_GUESS = 1000;
/** Peers whose guesses are counted; beyond it the oldest is forgotten. */
const MAX_PEERS = 1024;

/** On every answer: nothing from outside, no framing, no guessing, no caching. */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; " +
    "require-trusted-types-for 'script'; trusted-types 'none'",
  "cache-control": "no-store",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

export class Access {
  readonly #token: Uint8Array | undefined;
  readonly #cookieValue: string;
  readonly #guesses: Guesses;
  #cookieName = "sendq";

  /**
   * @param token What a request has to bring; undefined: nothing.
   * @throws {RangeError} Not a loopback address and no token, or too short a token.
   */
  constructor(hostname: string, token: string | undefined, clock: Clock) {
    if (token === undefined) {
      if (!isLoopback(hostname)) {
        throw new RangeError(
          `hostname "${hostname}" is not a loopback address: whoever reaches it could read the ` +
            `status. Set a token, or listen on 127.0.0.1 or ::1.`,
        );
      }
    } else if (!isToken(token)) throw new RangeError(`token ${TOKEN_RULE}`);
    this.#guesses = new Guesses(clock);
    this.#token = token === undefined ? undefined : digest(token);
    // The browser stores what proves knowledge of the token, not the token.
    this.#cookieValue = digest(`sendq cookie ${token}`).toHex();
  }

  /** Cookies of one host are shared by all its ports: each server needs a name of its own. */
  set port(port: number) {
    this.#cookieName = `sendq_${port}`;
  }

  /**
   * Decides about a request.
   *
   * @returns What to answer instead; undefined: it may pass.
   */
  refuse(request: HttpRequest): Refusal | undefined {
    if (this.#token === undefined) {
      const host = request.header("host") ?? "";
      if (namesThisMachine(host)) return undefined;
      return {
        status: 403,
        reason: `The host "${host}" is a name that anybody could point here. ` +
          `Use the IP address, or localhost.`,
      };
    }
    const cookie = cookieOf(request, this.#cookieName);
    const expected = digest(this.#cookieValue);
    if (cookie !== undefined && timingSafeEqual(digest(cookie), expected)) return undefined;
    const bearer = /^Bearer (.+)$/i.exec(request.header("authorization") ?? "")?.[1];
    if (bearer !== undefined) return this.#check(bearer, request.peer);
    return NEEDS_TOKEN;
  }

  /**
   * Takes the login form.
   *
   * @returns The `Set-Cookie` to answer with, or why not.
   */
  logIn(request: HttpRequest): { readonly cookie: string } | Refusal {
    const { body } = request;
    if (this.#token === undefined || body === undefined) return NEEDS_TOKEN;
    const token = new URLSearchParams(body).get("token") ?? "";
    const refusal = this.#check(token.trim(), request.peer);
    const cookie = `${this.#cookieName}=${this.#cookieValue}; HttpOnly; SameSite=Strict; Path=/`;
    return refusal ?? { cookie };
  }

  /** A right token costs no guess, but is not looked at either once there are none left. */
  #check(token: string, peer: string): Refusal | undefined {
    if (this.#token === undefined) return undefined;
    if (!this.#guesses.left(peer)) return TOO_MANY;
    if (timingSafeEqual(digest(token), this.#token)) return undefined;
    this.#guesses.take(peer);
    return NEEDS_TOKEN;
  }
}

/** Why a request is not answered as it wishes. */
export interface Refusal {
  readonly status: 401 | 403 | 429;
  readonly reason: string;
}

const NEEDS_TOKEN: Refusal = {
  status: 401,
  reason: "This page needs its token, as Authorization: Bearer TOKEN or through the form.",
};
const TOO_MANY: Refusal = {
  status: 429,
  reason: "Too many wrong tokens came from this address. Wait a second for each further one.",
};

/** How many wrong tokens each peer may still try. */
class Guesses {
  readonly #clock: Clock;
  /** When all its guesses are back. */
  readonly #fullAtMs = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  left(peer: string): boolean {
    const owedMs = (this.#fullAtMs.get(peer) ?? 0) - this.#clock.nowMs();
    return owedMs <= (FREE_GUESSES - 1) * MS_PER_GUESS;
  }

  take(peer: string): void {
    const nowMs = this.#clock.nowMs();
    const fullAtMs = Math.max(nowMs, this.#fullAtMs.get(peer) ?? 0) + MS_PER_GUESS;
    this.#fullAtMs.delete(peer);
    this.#fullAtMs.set(peer, fullAtMs);
    const [oldest] = this.#fullAtMs.keys();
    if (this.#fullAtMs.size > MAX_PEERS && oldest !== undefined) this.#fullAtMs.delete(oldest);
  }
}

/** An IP address or localhost, with any port: a tunnel changes the port. */
function namesThisMachine(host: string): boolean {
  return /^(localhost|\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\])(:\d{1,5})?$/i.test(host);
}

function cookieOf(request: HttpRequest, name: string): string | undefined {
  for (const pair of (request.header("cookie") ?? "").split(";")) {
    const [key, value] = pair.trim().split("=", 2);
    if (key === name) return value;
  }
  return undefined;
}

function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
