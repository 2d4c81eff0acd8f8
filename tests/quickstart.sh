#!/bin/bash
# Every curl example of the two published pages (operator quickstart, deploy lifecycle), as
# published: only host, tokens and ids are replaced. Checks each status and each field shown.
#
# usage: tests/quickstart.sh [ENV_FILE]     (default: .demo/env)
set -euo pipefail

env_file=${1:-.demo/env}
[[ -r $env_file ]] || { echo "quickstart: $env_file is missing; run make demo first" >&2; exit 2; }
# shellcheck source=/dev/null
. "$env_file"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step=""
checks=0

fail() {
    echo "not ok: $step: $*" >&2
    [[ -s $work/body ]] && { echo "answer: $(head -c 2000 "$work/body")" >&2; }
    exit 1
}

# api STATUS CURL_ARGUMENT...: runs an example, keeps headers and body, checks the status. If
# the published rate limits ask to wait, it waits.
api() {
    local wanted=$1 wait
    shift
    while :; do
        answered=$(curl --silent --show-error --max-time 60 --cacert "$BUDDO_CA" \
            --output "$work/body" --dump-header "$work/headers" --write-out '%{http_code}' "$@")
        [[ $answered == 429 ]] || break
        wait=$(tr -d '\r' <"$work/headers" | awk 'tolower($1) == "retry-after:" { print $2 }')
        [[ -n $wait && $wait -le 60 ]] || fail "429 without a bearable Retry-After"
        sleep "$wait"
    done
    [[ " $wanted " == *" $answered "* ]] || fail "status $answered, wanted $wanted"
    checks=$((checks + 1))
}

# has JQ_CONDITION [JQ_ARGUMENT...]: the answer's JSON is as published.
has() {
    local condition=$1
    shift
    jq --exit-status "$@" "$condition" "$work/body" >/dev/null || fail "not so: $condition"
    checks=$((checks + 1))
}

get() { jq --raw-output "$1" "$work/body"; }

# until_status ID STATUS: polls as the page says, slowly enough for 30 requests a minute.
until_status() {
    local deadline=$((SECONDS + 150)) status=""
    while ((SECONDS < deadline)); do
        api 200 "$BUDDO_URL/api/deploy/apps/$1/status" -H "Authorization: Bearer $OAUTH_TOKEN"
        status=$(get .status)
        [[ $status != "$2" ]] || return 0
        sleep 2
    done
    fail "status is $status, wanted $2"
}

# visit NAME STATUS: the app's answer at the edge, over verified HTTPS. The edge learns of a stop
# within its refresh time, and requests on their way are still answered.
visit() {
    local host=$1.$BUDDO_ZONE deadline=$((SECONDS + 10)) status=""
    while ((SECONDS < deadline)); do
        status=$(curl --silent --show-error --max-time 30 --cacert "$BUDDO_EDGE_CA" \
            --output "$work/page" --write-out '%{http_code}' \
            --connect-to "$host:443:$BUDDO_EDGE" "https://$host/")
        [[ $status != "$2" ]] || return 0
        sleep 0.2
    done
    fail "https://$host/ answers $status, wanted $2"
}

deployment='(.deployment | .id and .app_id and .deploy_tier_id and .container_name
    and .container_image == $image and .subdomain == "my-app"
    and (.memory_limit_mb | type == "number") and (.cpu_limit_millicores | type == "number")
    and (.inserted_at | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T")))'
logs='(.logs | length >= 2 and all(.id and .action and .status and .inserted_at
    and has("initiated_by") and has("details")))'

# ── Operator quickstart ─────────────────────────────────────────────────────────────────────

step="quickstart 1: register"
api "201 422" -X POST "$BUDDO_URL/api/auth/register" \
    -H "Content-Type: application/json" \
    -d '{
"email": "you@example.com",
"username": "myoperator",
"password": "a-strong-password"
}'
if [[ $answered == 201 ]]; then
    has '.user | .id and .email == "you@example.com" and .username == "myoperator"
        and .tier == "free" and .points == 0 and .referral_code and .email_verified == false
        and (.registration_number | type == "number")'
    step="quickstart 1: verification mail"
    mail=""
    deadline=$((SECONDS + 30))
    while [[ -z $mail ]] && ((SECONDS < deadline)); do
        mail=$(grep --files-with-matches --ignore-case '^To:.*you@example\.com' "$BUDDO_MAIL"/*.eml \
            2>/dev/null | head -n 1 || true)
        [[ -n $mail ]] || sleep 0.2
    done
    [[ -n $mail ]] || fail "no mail in $BUDDO_MAIL"
    # Quoted-printable: a line that ends with = continues, =3D is =.
    token=$(tr -d '\r' <"$mail" | sed -e ':a' -e '/=$/{N;s/=\n//;ba' -e '}' -e 's/=3D/=/g' \
        | grep --only-matching --extended-regexp 'token=[A-Za-z0-9_.~-]+' | head -n 1)
    [[ -n $token ]] || fail "no token in $mail"
    api 200 -X POST "$BUDDO_URL/api/auth/verify-email" -H "Content-Type: application/json" \
        -d "{\"token\": \"${token#token=}\"}"
    has '. == {"message": "Email verified"}'
else
    # A second run against the same coordinator: the account exists.
    has '.errors | any(.pointer == "/email")'
fi

step="quickstart 2: log in"
api 200 -X POST "$BUDDO_URL/api/auth/login" \
    -H "Content-Type: application/json" \
    -d '{
"email": "you@example.com",
"password": "a-strong-password"
}'
has '(.token | length > 20) and (.user | .id and .email == "you@example.com"
    and .username == "myoperator" and .tier == "free" and .is_admin == false
    and .email_verified == true and .totp_enabled == false)'
JWT=$(get .token)

step="quickstart 3: create an OAuth app"
api 201 -X POST "$BUDDO_URL/api/oauth/apps" \
    -H "Authorization: Bearer $JWT" \
    -H "Content-Type: application/json" \
    -d '{
"app_name": "My Deploy App",
"redirect_uris": ["http://localhost:9876/callback"],
"requested_scopes": ["deploy:manage"]
}'
has '.app | .id and .client_id and .client_secret and .app_name == "My Deploy App"
    and .redirect_uris == ["http://localhost:9876/callback"]
    and .approved_scopes == ["deploy:manage"]'
api 200 "$BUDDO_URL/api/oauth/my-apps" -H "Authorization: Bearer $JWT"
has '.apps | any(.app_name == "My Deploy App")'

step="the token that the deploy endpoints want"
api 401 "$BUDDO_URL/api/deploy/tiers" -H "Authorization: Bearer $JWT"
api 200 -X POST "$BUDDO_URL/api/oauth/token" \
    --data-urlencode grant_type=urn:ietf:params:oauth:grant-type:token-exchange \
    --data-urlencode client_id=buddo-cli --data-urlencode scope=deploy:manage \
    --data-urlencode subject_token_type=urn:ietf:params:oauth:token-type:jwt \
    --data-urlencode "subject_token=$JWT"
has '.access_token and .refresh_token and .token_type == "Bearer" and .scope == "deploy:manage"'
OAUTH_TOKEN=$(get .access_token)
YOUR_OAUTH_TOKEN=$OAUTH_TOKEN

# Leftovers of an interrupted earlier run.
step="leftovers"
api 200 "$BUDDO_URL/api/deploy/apps" -H "Authorization: Bearer $OAUTH_TOKEN"
for id in $(get '.deployments[] | select(.status != "destroyed") | .id'); do
    api 200 -X DELETE "$BUDDO_URL/api/deploy/apps/$id" -H "Authorization: Bearer $OAUTH_TOKEN"
done

step="quickstart 6: deploy"
api 201 -X POST "$BUDDO_URL/api/deploy/apps" \
    -H "Authorization: Bearer $OAUTH_TOKEN" \
    -H "Content-Type: application/json" \
    -d '{
"subdomain": "my-app",
"image": "docker.io/library/nginx:latest",
"tier": "buddo-starter",
"port": 80
}'
has "$deployment" --arg image docker.io/library/nginx:latest
has '.deployment.status == "pending"'
DEPLOYMENT_ID=$(get .deployment.id)
until_status "$DEPLOYMENT_ID" running

step="quickstart 7: status"
api 200 "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID/status" \
    -H "Authorization: Bearer $OAUTH_TOKEN"
has '.id == $id and .status == "running" and .subdomain == "my-app"
    and .health_status == "healthy" and .last_health_check' --arg id "$DEPLOYMENT_ID"
visit my-app 200

step="quickstart 8: logs"
api 200 "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID/logs" \
    -H "Authorization: Bearer $OAUTH_TOKEN"
has "$logs"
has '.logs | .[0].action == "create" and .[0].status == "completed" and .[0].initiated_by
    and .[1].action == "deploy" and .[1].status == "completed" and .[1].initiated_by == null'

step="quickstart 9: stop"
api 200 -X POST "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID/stop" \
    -H "Authorization: Bearer $OAUTH_TOKEN"
until_status "$DEPLOYMENT_ID" stopped
visit my-app 503

step="quickstart 9: destroy"
api 200 -X DELETE "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID" \
    -H "Authorization: Bearer $OAUTH_TOKEN"
has '. == {"message": "Deployment destroyed", "id": $id}' --arg id "$DEPLOYMENT_ID"

# ── Deploy lifecycle ────────────────────────────────────────────────────────────────────────

step="lifecycle 1: tiers"
api 200 "$BUDDO_URL/api/deploy/tiers" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN"
has 'type == "array" and any(.slug == "buddo-starter" and .payment_method == "buddo_points")
    and any(.payment_method == "bitcoin") and all(.name and .slug and has("monthly_cost_points")
    and has("monthly_cost_sats") and .memory_limit_mb > 0 and .cpu_limit_millicores > 0
    and (.custom_domain_allowed | type == "boolean") and has("monthly_stipend_points")
    and has("ad_reach_multiplier"))'

step="lifecycle 2: create"
api 201 -X POST "$BUDDO_URL/api/deploy/apps" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN" \
    -H "Content-Type: application/json" \
    -d '{
"subdomain": "my-app",
"image": "harbor.buddo.xyz:4443/operators/my-app:latest",
"tier": "buddo-starter",
"port": 8080,
"env_vars": {
"NODE_ENV": "production",
"DATABASE_URL": "postgres://..."
}
}'
has "$deployment" --arg image harbor.buddo.xyz:4443/operators/my-app:latest
has '.deployment | .status == "pending" and .memory_limit_mb == 256
    and .cpu_limit_millicores == 250'
DEPLOYMENT_ID=$(get .deployment.id)
until_status "$DEPLOYMENT_ID" running

step="lifecycle 4: details"
api 200 "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN"
has "$deployment" --arg image harbor.buddo.xyz:4443/operators/my-app:latest
has '.deployment | has("billing_status") and has("custom_domain") and .deployed_at
    and .health_status == "healthy" and .host_server and .last_health_check
    and has("stopped_at") and .status == "running"'

step="lifecycle 4: status"
api 200 "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID/status" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN"
has '.id == $id and .status == "running" and .subdomain == "my-app"
    and .health_status == "healthy" and .last_health_check' --arg id "$DEPLOYMENT_ID"

step="lifecycle 4: logs"
api 200 "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID/logs" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN"
has "$logs"

step="lifecycle 4: list"
api 200 "$BUDDO_URL/api/deploy/apps" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN"
has '.deployments | any(.id == $id)' --arg id "$DEPLOYMENT_ID"

step="lifecycle 5: restart"
api 200 -X POST "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID/restart" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN"
has "$deployment" --arg image harbor.buddo.xyz:4443/operators/my-app:latest
until_status "$DEPLOYMENT_ID" running
visit my-app 200

step="lifecycle: stop"
api 200 -X POST "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID/stop" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN"
until_status "$DEPLOYMENT_ID" stopped

step="lifecycle: destroy"
api 200 -X DELETE "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN"
has '. == {"message": "Deployment destroyed", "id": $id}' --arg id "$DEPLOYMENT_ID"
api 422 -X POST "$BUDDO_URL/api/deploy/apps/$DEPLOYMENT_ID/restart" \
    -H "Authorization: Bearer $YOUR_OAUTH_TOKEN"

echo "quickstart: $checks checks passed"
