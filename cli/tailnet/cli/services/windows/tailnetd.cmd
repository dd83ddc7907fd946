@rem For a port of tailnetd to Windows, which is not written; run as administrator.
sc.exe create tailnetd binPath= "\"/usr/bin/tailnetd\" --statedir=\"%ProgramData%\tailnetd\"" start= delayed-auto depend= iphlpsvc/netprofm DisplayName= "Tailnet node agent"
sc.exe failure tailnetd reset= 3600 actions= restart/2000/restart/2000/restart/10000
sc.exe failureflag tailnetd 1
sc.exe sidtype tailnetd unrestricted
sc.exe start tailnetd
