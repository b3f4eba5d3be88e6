#!/bin/sh
# Makes the certificates and keys of the tests anew, beside this file. They protect nothing.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
authority() { # FILE NAME
  key "$1"
  openssl req -x509 -new -key "$1.key" -out "$1.pem" -days 36500 -subj "/CN=$2"
}
certificate() { # FILE NAME SUBJECT-ALT-NAMES FROM TO [AUTHORITY [EXTENSION]]
  key "$1"
  openssl req -new -key "$1.key" -out "$work/csr" -subj "/CN=$2" -addext "subjectAltName=$3" \
    ${7:+-addext "$7"}
  openssl ca -batch -config "$work/ca.cnf" -cert "${6:-authority}.pem" \
    -keyfile "${6:-authority}.key" \
    -in "$work/csr" -out "$1.pem" -startdate "$4" -enddate "$5" -notext
}

mkdir "$work/new"
: > "$work/index"
echo 1000 > "$work/serial"
cat > "$work/ca.cnf" <<END
[ca]
default_ca = tests
[tests]
database = $work/index
serial = $work/serial
new_certs_dir = $work/new
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
END

local="DNS:localhost,IP:127.0.0.1"
authority authority "sendq test authority"
authority stranger "sendq strange authority"
certificate server localhost "$local" 20260101000000Z 21260101000000Z
certificate client "sendq test client" "DNS:client.test" 20260101000000Z 21260101000000Z
certificate expired localhost "$local" 20250101000000Z 20250201000000Z
certificate future localhost "$local" 21000101000000Z 21260101000000Z
certificate name localhost "DNS:localhost" 20260101000000Z 21260101000000Z
certificate addresses addresses "IP:127.0.0.1,IP:::1" 20260101000000Z 21260101000000Z
certificate other other.test "DNS:other.test" 20260101000000Z 21260101000000Z
certificate purpose localhost "$local" 20260101000000Z 21260101000000Z authority \
  extendedKeyUsage=clientAuth
certificate unknown localhost "$local" 20260101000000Z 21260101000000Z authority \
  1.2.3.4=critical,ASN1:NULL
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out curve.key
openssl req -x509 -new -key curve.key -out curve.pem -days 36500 -subj "/CN=curve"
certificate curved localhost "$local" 20260101000000Z 21260101000000Z curve \
  extendedKeyUsage=clientAuth
rm curve.key
key self
openssl req -x509 -new -key self.key -out self.pem -days 36500 -subj "/CN=localhost" \
  -addext "subjectAltName=$local"
openssl pkcs8 -topk8 -in client.key -out client.encrypted.key -passout pass:secret
openssl genpkey -algorithm rsa-pss -out pss.key
openssl req -x509 -new -key pss.key -out pss.pem -days 36500 -subj "/CN=pss"
