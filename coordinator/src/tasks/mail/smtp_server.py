"""A real SMTP server for the tests: aiosmtpd with STARTTLS (RFC 3207), TLS from the first byte
(RFC 8314) or neither, and a password. Prints its port, then one JSON line a mail."""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

mode, certificate, key, password = sys.argv[1:5]


class Handler:
    async def handle_DATA(self, server, session, envelope):
        tls = server.transport.get_extra_info("ssl_object")
        mail = {
            "tls": tls.version() if tls else None,
            "user": session.auth_data.login.decode() if session.auth_data else None,
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "data": envelope.content.decode(),
        }
        print(json.dumps(mail), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.password == password.encode()
    # Not handled: the server answers 535 itself (RFC 4954, 6).
    return AuthResult(success=good, handled=good, auth_data=data if good else None)


async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    options = {"hostname": "localhost", "authenticator": authenticate}
    if mode == "starttls":
        options |= {"tls_context": context, "require_starttls": True, "auth_required": True}
    elif mode == "tls":
        options |= {"auth_required": True, "auth_require_tls": False}
    wrap = context if mode == "tls" else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), **options), "127.0.0.1", 0, ssl=wrap)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
