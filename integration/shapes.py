"""Upstream's shapes of what the LocalAPI answers, as far as a client sees them.

Source: tailscale ipn/ipnstate/ipnstate.go, ipn/prefs.go, ipn/backend.go, ipn/profiles.go,
client/tailscale/apitype, net/netcheck/netcheck.go, tailcfg/tailcfg.go.
"""

from tests.support.shapes import ANY, NUMBER, Absent, Each, Null, Open

PROBLEM = {"Error": str}
NODE = Open({
    "ID": int, "StableID": str, "Name": str, "User": int, "Key": str, "Machine": Absent(str),
    "DiscoKey": Absent(str), "Addresses": Null([str]), "AllowedIPs": Absent(Null([str])),
    "Hostinfo": ANY, "Online": Absent(Null(bool)), "Tags": Absent([str]),
})  # fmt: skip
USER = Open({"ID": int, "LoginName": str, "DisplayName": str, "ProfilePicURL": Absent(str)})
PEER_STATUS = {
    "ID": str, "NodeID": Absent(str), "PublicKey": str, "HostName": str, "DNSName": str, "OS": str,
    "UserID": int, "AltSharerUserID": Absent(int), "TailscaleIPs": Null([str]),
    "AllowedIPs": Absent([str]), "Tags": Absent([str]), "PrimaryRoutes": Absent([str]),
    "Addrs": Null([str]), "CurAddr": str, "Relay": str, "PeerRelay": str,
    "RxBytes": int, "TxBytes": int, "Created": str, "LastWrite": str, "LastSeen": str,
    "LastHandshake": str, "Online": bool, "ExitNode": bool, "ExitNodeOption": bool, "Active": bool,
    "PeerAPIURL": Null([str]), "TaildropTarget": int, "NoFileSharingReason": str,
    "Capabilities": Absent([str]), "CapMap": Absent(Each(Null([ANY]))),
    "sshHostKeys": Absent([str]), "ShareeNode": Absent(bool), "InNetworkMap": bool,
    "InMagicSock": bool, "InEngine": bool, "Expired": Absent(bool), "KeyExpiry": Absent(str),
    "Location": Absent({}),
}  # fmt: skip
STATUS = {
    "Version": str, "TUN": bool, "BackendState": str, "HaveNodeKey": Absent(bool), "AuthURL": str,
    "TailscaleIPs": Null([str]), "Self": PEER_STATUS,
    "ExitNodeStatus": Absent({"ID": str, "Online": bool, "TailscaleIPs": Null([str])}),
    "Health": Null([str]), "MagicDNSSuffix": str,
    "CurrentTailnet": Null({"Name": str, "MagicDNSSuffix": str, "MagicDNSEnabled": bool}),
    "CertDomains": Null([str]), "ExtraRecords": Absent([ANY]), "Peer": Null(Each(PEER_STATUS)),
    "User": Null(Each({"ID": int, "LoginName": str, "DisplayName": str, "ProfilePicURL": str})),
    "ClientVersion": Null({}),
    "TailnetdDatapath": Absent({"Name": str, "Version": str, "AEAD": str, "Threads": int}),  # ours
}  # fmt: skip
PING = {
    "IP": str, "NodeIP": str, "NodeName": str, "Err": str, "LatencySeconds": NUMBER,
    "Endpoint": str, "PeerRelay": str, "DERPRegionID": int, "DERPRegionCode": str,
    "PeerAPIPort": Absent(int), "PeerAPIURL": Absent(str), "IsLocalIP": Absent(bool),
}  # fmt: skip
PREFS = Open({  # and ours, which upstream's clients pass over
    "ControlURL": str, "RouteAll": bool, "ExitNodeID": str, "ExitNodeIP": str,
    "AutoExitNode": Absent(str), "InternalExitNodePrior": Absent(str),
    "ExitNodeAllowLANAccess": bool, "CorpDNS": bool, "RunSSH": bool, "RunWebClient": bool,
    "WantRunning": bool, "LoggedOut": bool, "ShieldsUp": bool, "AdvertiseTags": Null([str]),
    "Hostname": str, "NotepadURLs": bool, "ForceDaemon": Absent(bool), "Egg": Absent(bool),
    "AdvertiseRoutes": Null([str]), "AdvertiseServices": Null([str]), "Sync": ANY, "NoSNAT": bool,
    "NoStatefulFiltering": ANY, "NetfilterMode": int, "OperatorUser": Absent(str),
    "ProfileName": Absent(str), "AutoUpdate": {"Check": bool, "Apply": Null(bool)},
    "AppConnector": {"Advertise": bool}, "PostureChecking": bool, "NetfilterKind": str,
    "DriveShares": Null([ANY]),
    "Config": Null(Open({
        "PrivateNodeKey": str, "OldPrivateNodeKey": str, "NetworkLockKey": str, "NodeID": str,
        "UserProfile": USER,
    })),
})  # fmt: skip
LOGIN_PROFILE = Open({
    "ID": str, "Name": str, "UserProfile": USER, "ControlURL": str,
    "NetworkProfile": Open({"MagicDNSName": str, "DomainName": str}),
})  # fmt: skip
NETMAP = Open({"SelfNode": NODE, "Peers": Null([NODE])})
NOTIFY = {
    "Version": str, "SessionID": Absent(str), "ErrMessage": Null(str), "LoginFinished": Null({}),
    "State": Null(int), "Prefs": Null(PREFS), "NetMap": Null(NETMAP), "SelfChange": Absent(NODE),
    "InitialStatus": Absent(STATUS), "PeersChanged": Absent([NODE]), "PeersRemoved": Absent([int]),
    "UserProfiles": Absent(Each(USER)), "BrowseToURL": Null(str), "DriveShares": Null([ANY]),
    "Engine": Null({
        "RBytes": int, "WBytes": int, "NumLive": int, "LiveDERPs": int, "LivePeers": Each(ANY),
    }),
    "Health": Absent({"Warnings": Each(Open({
        "WarnableCode": str, "Severity": str, "Title": str, "Text": str, "BrokenSince": Null(str),
    }))}),
}  # fmt: skip
NETCHECK = {
    "Now": str, "UDP": bool, "IPv6": bool, "IPv4": bool, "IPv6CanSend": bool, "IPv4CanSend": bool,
    "OSHasIPv6": bool, "ICMPv4": bool, "MappingVariesByDestIP": Null(bool), "UPnP": Null(bool),
    "PMP": Null(bool), "PCP": Null(bool), "PreferredDERP": int, "RegionLatency": Each(int),
    "RegionV4Latency": Each(int), "RegionV6Latency": Each(int), "GlobalV4Counters": Each(int),
    "GlobalV6Counters": Each(int), "GlobalV4": str, "GlobalV6": str, "CaptivePortal": Null(bool),
}  # fmt: skip
RELAY_SESSIONS = {"UDPPort": Null(int), "Sessions": [ANY]}
DERP_MAP = Open({"Regions": Each(Open({
    "RegionID": int, "RegionCode": str, "RegionName": str,
    "Nodes": [Open({"Name": str, "RegionID": int, "HostName": str})],
}))})  # fmt: skip
DNS_OS = Open({"Nameservers": [str], "SearchDomains": [str], "MatchDomains": [str]})
DNS_ANSWER = Open({"Bytes": str, "Resolvers": [Open({"Addr": str})]})
