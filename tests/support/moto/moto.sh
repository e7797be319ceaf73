# Starts moto's server (an AWS in memory) on a free port of 127.0.0.1, or of $MOTO_HOST, with authentication on. Sourced; needs $DIR, a scratch folder.
#   moto_start            sets MOTO_URL, and AWS_* for its administrator; 77 when there is no moto_server
#   moto_stop             ends it
#   moto_user NAME FILE   a user with the policy in FILE ("" for none); prints its "id secret"
#   moto_call SERVICE ACTION [name=value ...]   one signed call as the administrator; prints the answer
# shellcheck shell=bash disable=SC2034
export AWS_REGION=eu-west-1 AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=/nonexistent AWS_SHARED_CREDENTIALS_FILE=/nonexistent
unset AWS_CA_BUNDLE AWS_MAX_ATTEMPTS AWS_PROFILE AWS_DEFAULT_PROFILE AWS_DEFAULT_REGION AWS_SESSION_TOKEN AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY

moto_free_port() { # [address]
  perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => shift)->sockport' "${1:-127.0.0.1}"
}
moto_version() { case $1 in ec2) echo 2016-11-15 ;; elasticloadbalancing) echo 2015-12-01 ;; sts) echo 2011-06-15 ;; iam) echo 2010-05-08 ;; esac; }
moto_call() {
  local service=$1 args=(-d "Action=$2" -d "Version=$(moto_version "$1")") pair
  for pair in "${@:3}"; do args+=(--data-urlencode "$pair"); done
  printf 'user = "%s:%s"\n' "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" |
    curl -sS -m 60 -K - --aws-sigv4 "aws:amz:$AWS_REGION:$service" "${args[@]}" "$MOTO_URL/"
}
moto_text() { sed -n "s/.*<$1>\([^<]*\)<.*/\1/p" | head -n 1; } # the first element of that name
moto_user() {
  local answer
  moto_call iam CreateUser "UserName=$1" >/dev/null
  [ -z "$2" ] || moto_call iam PutUserPolicy "UserName=$1" PolicyName=p "PolicyDocument=$(cat "$2")" >/dev/null
  answer=$(moto_call iam CreateAccessKey "UserName=$1")
  echo "$(moto_text AccessKeyId <<<"$answer") $(moto_text SecretAccessKey <<<"$answer")"
}
moto_start() {
  local port host=${MOTO_HOST:-127.0.0.1}
  command -v moto_server >/dev/null || return 77
  port=$(moto_free_port "$host")
  MOTO_URL=http://$host:$port
  # No images of its own: describing them costs seconds of start.
  MOTO_EC2_LOAD_DEFAULT_AMIS=false moto_server -H "$host" -p "$port" >"$DIR/moto.log" 2>&1 &
  MOTO_PID=$!
  for _ in $(seq 300); do
    curl -sf -m 2 -o /dev/null "$MOTO_URL/moto-api/" && break
    kill -0 "$MOTO_PID" 2>/dev/null || { cat "$DIR/moto.log" >&2; return 1; }
    sleep 0.2
  done
  export AWS_ACCESS_KEY_ID=bootstrap AWS_SECRET_ACCESS_KEY=bootstrap # counts while nobody is checked
  echo '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}' >"$DIR/admin.json"
  read -r AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY <<<"$(moto_user admin "$DIR/admin.json")"
  curl -sf -m 10 -o /dev/null -H 'Content-Type: text/plain' -d 0 "$MOTO_URL/moto-api/reset-auth" # from here on every call is checked
}
moto_stop() { [ -z "${MOTO_PID:-}" ] || { kill "$MOTO_PID"; wait "$MOTO_PID"; } 2>/dev/null; MOTO_PID=; }
# An AMI that carries a node image's tag; prints its id.
moto_image() {
  local ami
  ami=$(moto_call ec2 RegisterImage "Name=kprov-$1" Architecture=x86_64 RootDeviceName=/dev/xvda | moto_text imageId)
  moto_call ec2 CreateTags "ResourceId.1=$ami" Tag.1.Key=kprov-image "Tag.1.Value=$1" >/dev/null
  echo "$ami"
}
