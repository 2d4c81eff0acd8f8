"""OAuth clients that nobody here wrote (oauthlib, requests-oauthlib) against the coordinator.

They do authorization code with PKCE, refresh, introspection, revocation and the device flow; then a
browser's part is played for `buddo login --web` and `--device`. Prints one line a step; ends with a
traceback at the first that goes wrong. All it needs comes by environment variables: BUDDO_API, BUDDO_CA,
BUDDO_EMAIL, BUDDO_PASSWORD, BUDDO (the program).
"""

import os
import re
import subprocess
import tempfile
import urllib.parse
from html.parser import HTMLParser

import requests
from oauthlib.oauth2 import DeviceClient, OAuth2Error, WebApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

API = os.environ["BUDDO_API"]
CA = os.environ["BUDDO_CA"]
EMAIL = os.environ["BUDDO_EMAIL"]
PASSWORD = os.environ["BUDDO_PASSWORD"]
REDIRECT = "https://app.example.com/callback"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Form(HTMLParser):
    """The form of a page, as a browser without JavaScript sees it."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields, self.buttons = None, {}, set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "form":
            self.action = values["action"]
        elif tag == "input" and "name" in values:
            self.fields[values["name"]] = values.get("value") or ""
        elif tag == "button" and "name" in values:
            self.buttons.add((values["name"], values["value"]))


class Browser:
    """Opens pages and fills in their forms; follows redirects within the API alone."""

    def __init__(self):
        self.session = requests.Session()
        self.session.verify = CA

    def open(self, url):
        return self._follow(self.session.get(url, allow_redirects=False))

    def submit(self, answer, button=None, **fields):
        form = Form(answer.text)
        assert form.action, answer.text
        data = {**form.fields, **fields}
        if button:
            assert button in form.buttons, (button, form.buttons)
            data.update([button])
        url = urllib.parse.urljoin(answer.url, form.action)
        return self._follow(self.session.post(url, data=data, allow_redirects=False))

    def log_in(self, answer):
        return self.submit(answer, email=EMAIL, password=PASSWORD)

    def _follow(self, answer):
        while answer.status_code == 303:
            target = urllib.parse.urljoin(answer.url, answer.headers["location"])
            if not target.startswith(API + "/"):
                return answer
            answer = self.session.get(target, allow_redirects=False)
        return answer


def step(text):
    print("ok:", text, flush=True)


def api(method, path, token, **arguments):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.request(method, API + path, headers=headers, verify=CA, timeout=30, **arguments)


def make_app(jwt, **fields):
    body = {"app_name": "Acceptance", "requested_scopes": ["deploy:manage", "profile:read"], **fields}
    answer = api("POST", "/api/oauth/apps", jwt, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["app"]


def deploys(token):
    """The status with which the deploy endpoints answer this token."""
    return api("GET", "/api/deploy/apps", token["access_token"]).status_code


def code_flow(metadata, app):
    """Authorization code with PKCE; the session and its token."""
    secret = app.get("client_secret")
    client = WebApplicationClient(app["client_id"])
    session = OAuth2Session(
        client=client, redirect_uri=REDIRECT, scope=["deploy:manage", "profile:read"], pkce="S256"
    )
    url, state = session.authorization_url(metadata["authorization_endpoint"])
    browser = Browser()
    consent = browser.log_in(browser.open(url))
    assert "permanently destroy" in consent.text, consent.text
    answer = browser.submit(consent, button=("decision", "allow"))
    location = answer.headers["location"]
    assert location.startswith(REDIRECT + "?"), location
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)
    assert query["state"] == [state] and query["iss"] == [metadata["issuer"]], query
    how = {"auth": HTTPBasicAuth(app["client_id"], secret)} if secret else {"include_client_id": True}
    token = session.fetch_token(
        metadata["token_endpoint"], authorization_response=location, verify=CA, **how
    )
    assert token["token_type"] == "Bearer" and token["expires_in"] == 3600, token.keys()
    return session, token


def confidential(metadata, jwt):
    app = make_app(jwt, redirect_uris=[REDIRECT])
    basic = HTTPBasicAuth(app["client_id"], app["client_secret"])
    session, token = code_flow(metadata, app)
    assert deploys(token) == 200
    step("oauthlib: authorization code with PKCE, a client with a secret")

    def introspect(token):
        answer = requests.post(
            metadata["introspection_endpoint"], data={"token": token}, auth=basic, verify=CA
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    seen = introspect(token["access_token"])
    assert seen["active"] and seen["client_id"] == app["client_id"], seen
    assert set(seen["scope"].split()) == {"deploy:manage", "profile:read"}, seen
    assert introspect("buddo_at_nobody") == {"active": False}
    step("introspection")

    fresh = session.refresh_token(
        metadata["token_endpoint"], refresh_token=token["refresh_token"], auth=basic, verify=CA
    )
    assert fresh["refresh_token"] != token["refresh_token"] and deploys(fresh) == 200
    step("oauthlib: refresh")

    client = WebApplicationClient(app["client_id"])
    url, headers, body = client.prepare_token_revocation_request(
        metadata["revocation_endpoint"], fresh["refresh_token"], token_type_hint="refresh_token"
    )
    answer = requests.post(url, headers=headers, data=body, auth=basic, verify=CA)
    assert answer.status_code == 200, answer.text
    assert deploys(fresh) == 401 and introspect(fresh["access_token"]) == {"active": False}
    step("oauthlib: revocation ends what came of it")


def public(metadata, jwt):
    app = make_app(jwt, redirect_uris=[REDIRECT], token_endpoint_auth_method="none")
    assert "client_secret" not in app
    session, token = code_flow(metadata, app)
    step("oauthlib: authorization code with PKCE, a public client")
    again = {"client_id": app["client_id"], "verify": CA}
    fresh = session.refresh_token(
        metadata["token_endpoint"], refresh_token=token["refresh_token"], **again
    )
    assert deploys(fresh) == 200
    try:
        session.refresh_token(
            metadata["token_endpoint"], refresh_token=token["refresh_token"], **again
        )
    except OAuth2Error as error:
        assert error.error == "invalid_grant", error
    else:
        raise AssertionError("a used refresh token was taken")
    assert deploys(fresh) == 401
    step("oauthlib: a refresh token that is used twice ends the grant")


def connect_device(url, device):
    browser = Browser()
    page = browser.log_in(browser.open(url))
    assert device["user_code"] in page.text, page.text
    done = browser.submit(page, button=("decision", "allow"))
    assert "connected" in done.text, done.text


def device_flow(metadata, jwt):
    app = make_app(jwt, grant_types=[DEVICE_GRANT], token_endpoint_auth_method="none")
    answer = requests.post(
        metadata["device_authorization_endpoint"],
        data={"client_id": app["client_id"], "scope": "deploy:manage"},
        verify=CA,
    )
    assert answer.status_code == 200, answer.text
    device = answer.json()
    session = OAuth2Session(client=DeviceClient(app["client_id"]))

    def poll():
        return session.fetch_token(
            metadata["token_endpoint"],
            device_code=device["device_code"],
            include_client_id=True,
            verify=CA,
        )

    try:
        poll()
    except OAuth2Error as error:
        assert error.error == "authorization_pending", error
    else:
        raise AssertionError("nobody had decided")
    connect_device(device["verification_uri_complete"], device)
    token = poll()
    assert deploys(token) == 200
    step("oauthlib: device flow")


class Buddo:
    """The command line, with a home of its own."""

    def __init__(self):
        self.home = tempfile.TemporaryDirectory()
        self.environment = {"HOME": self.home.name, "BUDDO_API": API, "BUDDO_CA": CA}

    def start(self, *arguments):
        return subprocess.Popen(
            [os.environ["BUDDO"], *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments):
        return self.end(self.start(*arguments))

    def end(self, process):
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def said(process, pattern):
    """The first line of standard error that has `pattern`."""
    for line in process.stderr:
        found = re.search(pattern, line)
        if found:
            return found.group(0)
    raise AssertionError(f"buddo did not say {pattern}")


def after_login(buddo, process, name):
    code, out, err = buddo.end(process)
    assert code == 0 and "Logged in as " in out, (code, out, err)
    code, out, err = buddo.run("whoami")
    assert code == 0 and "Account: " in out, (code, out, err)
    assert buddo.run("list")[0] == 0
    code, out, err = buddo.run("logout")
    assert code == 0 and "Logged out" in out and not err, (code, out, err)
    assert buddo.run("list")[0] == 3
    step(f"buddo login {name}, whoami, list, logout")


def command_line():
    buddo = Buddo()
    process = buddo.start("login", "--web")
    url = said(process, re.escape(API) + r"/api/oauth/authorize\S+")
    browser = Browser()
    consent = browser.log_in(browser.open(url))
    answer = browser.submit(consent, button=("decision", "allow"))
    page = requests.get(answer.headers["location"], timeout=30)
    assert page.status_code == 200 and "terminal" in page.text, page.text
    after_login(buddo, process, "--web")

    process = buddo.start("login", "--device")
    url = said(process, re.escape(API) + r"/device\?user_code=\S+")
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["user_code"][0]
    connect_device(url, {"user_code": code})
    after_login(buddo, process, "--device")


def main():
    metadata = requests.get(API + "/.well-known/oauth-authorization-server", verify=CA).json()
    login = api("POST", "/api/auth/login", None, json={"email": EMAIL, "password": PASSWORD})
    jwt = login.json()["token"]
    confidential(metadata, jwt)
    public(metadata, jwt)
    device_flow(metadata, jwt)
    command_line()
    connected = api("GET", "/api/user/connected-apps", jwt).json()["connected_apps"]
    assert [app["app_name"] for app in connected] == ["Acceptance"], connected
    path = f"/api/user/connected-apps/{connected[0]['app_id']}"
    assert api("DELETE", path, jwt).status_code == 200
    assert api("GET", "/api/user/connected-apps", jwt).json()["connected_apps"] == []
    step("connected apps: listed and disconnected")


if __name__ == "__main__":
    main()
