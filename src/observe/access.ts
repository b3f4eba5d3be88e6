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
 * as the cookie that the login form sets. A strange page has neither.
 *
 * @module
 */

import { createHash, timingSafeEqual } from "node:crypto";

/** A token shorter than this can be guessed. */
const MIN_TOKEN_CHARACTERS = 16;
const MAX_FORM_BYTES = 4096;

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

/** Decides about requests. */
export class Access {
  readonly #token: Uint8Array | undefined;
  readonly #cookieValue: string;
  #cookieName = "sendq";

  /**
   * @param hostname Where the server is going to listen.
   * @param token What a request has to bring; undefined: nothing.
   * @throws {RangeError} Not a loopback address and no token, or too short a token.
   */
  constructor(hostname: string, token: string | undefined) {
    if (token === undefined) {
      if (!isLoopback(hostname)) {
        throw new RangeError(
          `hostname "${hostname}" is not a loopback address: whoever reaches it could read the ` +
            `status. Set a token, or listen on 127.0.0.1 or ::1.`,
        );
      }
    } else if (!/^[\x21-\x7e]+$/.test(token) || token.length < MIN_TOKEN_CHARACTERS) {
      throw new RangeError(
        `token must have ${MIN_TOKEN_CHARACTERS} or more printable ASCII characters and no ` +
          `space; "openssl rand -hex 32" makes a good one`,
      );
    }
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
  refuse(request: Request): { readonly status: 401 | 403; readonly reason: string } | undefined {
    if (this.#token === undefined) {
      const host = request.headers.get("host") ?? "";
      if (namesThisMachine(host)) return undefined;
      return {
        status: 403,
        reason: `The host "${host}" is a name that anybody could point here. ` +
          `Use the IP address, or localhost.`,
      };
    }
    const bearer = /^Bearer (.+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    if (bearer !== undefined && timingSafeEqual(digest(bearer), this.#token)) return undefined;
    const cookie = cookieOf(request, this.#cookieName);
    const expected = digest(this.#cookieValue);
    if (cookie !== undefined && timingSafeEqual(digest(cookie), expected)) return undefined;
    return {
      status: 401,
      reason: "This page needs its token, as Authorization: Bearer TOKEN or through the form.",
    };
  }

  /**
   * Takes the login form.
   *
   * @returns The `Set-Cookie` to answer with; undefined: wrong token.
   */
  async logIn(request: Request): Promise<string | undefined> {
    const length = Number(request.headers.get("content-length") ?? Infinity);
    if (this.#token === undefined || !(length <= MAX_FORM_BYTES)) return undefined;
    const token = new URLSearchParams(await request.text()).get("token") ?? "";
    if (!timingSafeEqual(digest(token.trim()), this.#token)) return undefined;
    return `${this.#cookieName}=${this.#cookieValue}; HttpOnly; SameSite=Strict; Path=/`;
  }
}

/** Whether nobody outside this machine can reach the address. */
export function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "::1" || /^127(\.\d{1,3}){3}$/.test(hostname);
}

/** An IP address or localhost, with any port: a tunnel changes the port. */
function namesThisMachine(host: string): boolean {
  return /^(localhost|\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\])(:\d{1,5})?$/i.test(host);
}

function cookieOf(request: Request, name: string): string | undefined {
  for (const pair of (request.headers.get("cookie") ?? "").split(";")) {
    const [key, value] = pair.trim().split("=", 2);
    if (key === name) return value;
  }
  return undefined;
}

function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
