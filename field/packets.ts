/**
 * Packets of binary protocols, each with its number in it.
 *
 * @module
 */

import { token } from "./case.ts";

/** Text as bytes. */
export function text(words: string): Uint8Array {
  return new TextEncoder().encode(words);
}

/** A PDU of SMPP 3.4: its length, command, status 0, sequence number, body. */
function smpp(command: number, sequence: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + body.length);
  const view = new DataView(bytes.buffer);
  [bytes.length, command, 0, sequence].forEach((word, i) => view.setUint32(4 * i, word));
  bytes.set(body, 16);
  return bytes;
}

/** What binds a transceiver. */
export function smppBind(systemId: string, password: string): Uint8Array {
  return smpp(9, 1, text(`${systemId}\0${password}\0\0\x34\0\0\0`));
}

/** A message to be sent. */
export function smppSubmit(number: number): Uint8Array {
  const message = token(number);
  const [addresses, flags] = ["\0\0\x31\0\0\0\x32\0", "\0\0\0\0\0\0\0\0\0"];
  return smpp(
    4,
    number + 10,
    text(`\0${addresses}${flags}${String.fromCharCode(message.length)}${message}`),
  );
}

/** A data packet of Teltonika's codec 8: one position, its number in the milliseconds. */
export function teltonika(number: number): Uint8Array {
  const bytes = new Uint8Array(8 + 2 + 8 + 1 + 15 + 6 + 1 + 4);
  const view = new DataView(bytes.buffer);
  const end = bytes.length - 4;
  view.setUint32(4, end - 8);
  view.setUint8(8, 8); // the codec
  view.setUint8(9, 1); // one position
  view.setBigUint64(10, BigInt(Date.UTC(2026, 0, 1) + number));
  view.setInt32(19, 134_000_000); // longitude; the rest stays 0, without IO elements
  view.setInt32(23, 525_000_000);
  view.setUint8(end - 1, 1);
  view.setUint32(end, crc16(bytes.subarray(8, end), 0xa001, 0, 0));
  return bytes;
}

/** A packet of GT06: header, length, protocol number, body, serial number, checksum, CRLF. */
function gt06(protocol: number, body: Uint8Array, serial: number): Uint8Array {
  const bytes = new Uint8Array(body.length + 10);
  const view = new DataView(bytes.buffer);
  const end = bytes.length - 4;
  bytes.set([0x78, 0x78, body.length + 5, protocol, ...body]);
  view.setUint16(end - 2, serial);
  view.setUint16(end, crc16(bytes.subarray(2, end), 0x8408, 0xffff, 0xffff));
  view.setUint16(end + 2, 0x0d0a);
  return bytes;
}

/** The login of a tracker: its IMEI in 8 bytes, two digits each. */
export function gt06Login(imei: string): Uint8Array {
  return gt06(1, Uint8Array.from(imei.match(/../g) ?? [], (pair) => parseInt(pair, 16)), 1);
}

/** Where a tracker is. */
export function gt06Location(number: number): Uint8Array {
  for (let speed = 0;; speed++) {
    const packet = gt06(
      0x12,
      new Uint8Array([
        ...[26, 11, 26, 20, 0, 0, 0xc5], // time, satellites
        ...[5, 0x9f, 0x1a, 0x60, 1, 0x70, 0xd3, 0x20, speed, 0x14, 0], // place, speed, course
        ...[1, 6, 1, 0x10, 0x20, 0, 0x30, 0x40], // cell
      ]),
      number,
    );
    // The npm parser takes a header anywhere for a new packet.
    if (!packet.some((byte, i) => i > 1 && byte === 0x78 && packet[i + 1] === 0x78)) return packet;
  }
}

/** A Modbus/TCP request that writes one register. */
export function modbusWrite(number: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  // Transaction, protocol, length, unit and function, register, value.
  [number & 0xffff, 0, 6, 0x0106, 0, number].forEach((word, i) => view.setUint16(2 * i, word));
  return bytes;
}

/** A sentence of NMEA 0183: a position, its number in the seconds of the day. */
export function nmeaPosition(number: number): string {
  const time = [number / 3600, number / 60 % 60, number % 60]
    .map((part) => String(Math.trunc(part)).padStart(2, "0")).join("");
  const body = `GPRMC,${time}.00,A,4807.038,N,01131.000,E,022.4,084.4,261126,003.1,W`;
  const checksum = text(body).reduce((all, byte) => all ^ byte, 0);
  return `$${body}*${checksum.toString(16).toUpperCase().padStart(2, "0")}\r\n`;
}

/** A CRC of 16 bits whose lowest bit comes first. */
function crc16(bytes: Uint8Array, polynomial: number, start: number, xor: number): number {
  let crc = start;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ polynomial : crc >>> 1;
  }
  return crc ^ xor;
}
