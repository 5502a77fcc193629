mkdir names; cd names; touch 'ü' 'a"b' "it's" 'tab	x' 'new
line' 'trailing ' ' leading' ./-dash 'back\slash' 'per%20cent' 'co:lon' 'eq=ual' '#hash' '~'; printf x > "$(printf 'n%.0s' $(seq 1 200))"; mkdir -p "$(printf 'd%.0s' $(seq 1 120))/$(printf 'e%.0s' $(seq 1 120))"; echo deep > "$(printf 'd%.0s' $(seq 1 120))/$(printf 'e%.0s' $(seq 1 120))/f"
