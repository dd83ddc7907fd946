"""Settings, accounts, and what control does for this node."""

from tailnet.agent.localapi.contract.operation import (
    NO_CONTENT,
    TEXT,
    Operation,
    Query,
    Routes,
    Tree,
)
from tailnet.agent.localapi.schema.basics import Problem
from tailnet.agent.localapi.schema.identity import LoginProfile

ACCOUNT: Routes = {
    "prefs": {
        "GET": Operation("The user's wishes, upstream's Prefs.", Tree),
        "PATCH": Operation(
            "Change those prefs whose mask is set (MaskedPrefs); answers with all.",
            Tree,
            body=Tree,
            refuses=(400,),
        ),
    },
    "check-prefs": {
        "POST": Operation(
            "Whether these prefs would be accepted.", Problem, body=Tree, refuses=(400,)
        )
    },
    "start": {
        "POST": Operation(
            "Store prefs (UpdatePrefs) and log in (AuthKey).",
            status=NO_CONTENT,
            body=Tree,
            refuses=(400,),
        )
    },
    "login-interactive": {
        "POST": Operation(
            "Ask for a login URL; it comes on the bus.", status=NO_CONTENT, refuses=(400,)
        )
    },
    "logout": {
        "POST": Operation(
            "Expire the node key and forget the login.", status=NO_CONTENT, refuses=(400,)
        )
    },
    "profiles/": {
        "GET": Operation("The accounts of this machine.", list[LoginProfile]),
        "PUT": Operation("Use a new, empty account.", status=201, refuses=(400,)),
    },
    "profiles/current": {"GET": Operation("The account in use.", LoginProfile)},
    "profiles/{id}": {
        "GET": Operation("One account.", LoginProfile, refuses=(404,)),
        "POST": Operation("Use another account.", status=NO_CONTENT, refuses=(400,)),
        "DELETE": Operation("Forget an account and its keys.", status=NO_CONTENT, refuses=(400,)),
    },
    "reload-config": {
        "POST": Operation("Read the configuration file again: {Reloaded, Err}.", Tree)
    },
    "set-use-exit-node-enabled": {
        "POST": Operation(
            "Use no exit node, or the last one again; answers with all prefs.",
            Tree,
            query=(Query("enabled", "boolean", "whether one is used", needed=True),),
            refuses=(400,),
        )
    },
    "set-dns": {
        "POST": Operation(
            "Let control publish a TXT record of this node's name.",
            Tree,
            query=(
                Query("name", "string", "_acme-challenge.…", needed=True),
                Query("value", "string", "the record's text", needed=True),
            ),
            refuses=(500,),
        )
    },
    "id-token": {
        "GET": Operation(
            "A token of control that says who this node is: {id_token}.",
            Tree,
            query=(Query("aud", "string", "for whom", needed=True),),
            refuses=(400, 502),
        )
    },
    "query-feature": {
        "POST": Operation(
            "Whether this node may use a feature: {Complete, Text, URL, ShouldWait}.",
            Tree,
            query=(Query("feature", "string", "its name", needed=True),),
            refuses=(400, 502),
        )
    },
    "alpha-set-device-attrs": {
        "PATCH": Operation(
            "Set attributes of this node at control; null removes one.",
            Tree,
            body=Tree,
            refuses=(400, 502),
        )
    },
    "set-expiry-sooner": {
        "POST": Operation(
            "Let the node key end earlier.",
            bytes,
            query=(Query("expiry", "integer", "Unix time", needed=True, most=9_999_999_999),),
            refuses=(400, 502),
            media=TEXT,
        )
    },
    "disconnect-control": {
        "POST": Operation(
            "Leave the control server alone until the next login or start.", status=NO_CONTENT
        )
    },
    "reset-auth": {
        "POST": Operation(
            "Forget every account and the machine's key.", status=NO_CONTENT, refuses=(400,)
        )
    },
}
